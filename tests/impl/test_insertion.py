"""What insert does to each leaf of a cache: by its name, along the axis whose logical name is exactly cache_batch."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from impl.serving.insertion import insert_leaves

AXES = ("layers", "cache_sequence", "cache_batch", "cache_kv")


def leaf(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(0.4, 1.1, shape), jnp.float32)


def tree(**leaves):
    return {"decoder": {0: {"KVCache_0": leaves}}}


def axes(**names):
    return {("decoder", "0", "KVCache_0", name): value for name, value in names.items()}


def test_a_leaf_is_written_along_its_batch_axis_wherever_that_is():
    cache, prefix = leaf(1, 2, 5, 3, 4), leaf(2, 2, 5, 1, 4)
    after = insert_leaves(
        tree(cached_prefill_key=prefix), tree(cached_prefill_key=cache), axes(cached_prefill_key=AXES), 1
    )
    expected = np.array(cache)
    expected[:, :, 1] = np.asarray(prefix)[:, :, 0]
    np.testing.assert_array_equal(after["decoder"][0]["KVCache_0"]["cached_prefill_key"], expected)


def test_the_generated_part_is_kept_and_called_empty():
    names = {"cached_ar_key": AXES, "cached_ar_lengths": ("layers", "cache_batch")}
    cache = tree(cached_ar_key=leaf(3, 2, 5, 3, 4), cached_ar_lengths=jnp.asarray([[7, 5, 6], [7, 5, 6]]))
    prefix = tree(cached_ar_key=leaf(4, 2, 5, 1, 4), cached_ar_lengths=jnp.asarray([[9], [9]]))
    after = insert_leaves(prefix, cache, axes(**names), 2)["decoder"][0]["KVCache_0"]
    np.testing.assert_array_equal(after["cached_ar_key"], cache["decoder"][0]["KVCache_0"]["cached_ar_key"])
    assert after["cached_ar_lengths"].tolist() == [[7, 5, 0], [7, 5, 0]]


@pytest.mark.parametrize(
    ("name", "named", "row", "message"),
    [
        ("cached_scale", AXES, (2, 5, 1, 4), "decoder/0/KVCache_0/cached_scale: nobody has said .* 'cached_scale'"),
        (
            "cached_prefill_key",
            ("layers", "cache_sequence", "cache_batch_prefill", "cache_kv"),
            (2, 5, 1, 4),
            "none is called 'cache_batch'",
        ),
        ("cached_prefill_key", AXES, (2, 6, 1, 4), r"float32\[2, 6, 1, 4\], expected float32\[2, 5, 1, 4\]"),
        ("cached_ar_key", AXES, (2, 5, 2, 4), r"float32\[2, 5, 2, 4\], expected float32\[2, 5, 1, 4\]"),
    ],
)
def test_refused(name, named, row, message):
    with pytest.raises(ValueError, match=message):
        insert_leaves(tree(**{name: leaf(6, *row)}), tree(**{name: leaf(5, 2, 5, 3, 4)}), axes(**{name: named}), 0)


def test_a_prefix_without_the_leaf_is_refused():
    with pytest.raises(ValueError, match="the prefix has no cache leaf decoder/0/KVCache_0/cached_ar_key"):
        insert_leaves(tree(), tree(cached_ar_key=leaf(5, 2, 5, 3, 4)), axes(cached_ar_key=AXES), 0)
