"""The cache as plain arrays: what a write changes, what a read calls valid, what is refused."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.attention import attend
from impl.math.masks import cached_mask
from impl.serving import kv
from impl.tiny import family

SIZES = kv.Sizes(batch=4, prefill=5, generated=3, heads=2, size=6, value_size=6, dtype="float32")


def drawn(shape, dtype, seed):
    random = np.random.default_rng([seed, *shape])
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.asarray(random.integers(3, 97, shape), dtype)
    return jnp.asarray(random.normal(0.2, 1.3, shape), dtype)


def used(lengths=(1, 0, 3, 2)):
    """Leaves full of earlier contents, slot by slot filled to `lengths`; slot 2 is full."""
    leaves = {name: drawn(leaf.shape, leaf.dtype, at) for at, (name, leaf) in enumerate(kv.declare(SIZES).items())}
    return {**leaves, "cached_ar_lengths": jnp.asarray(lengths, jnp.int32)}


def entries(rows, length, segments, dtype="float32"):
    content = (rows, length, SIZES.heads, SIZES.size)
    positions = drawn((rows, length), jnp.dtype("int32"), 51)
    return kv.Entries(drawn(content, jnp.dtype(dtype), 52), drawn(content, jnp.dtype(dtype), 53), positions, segments)


def test_a_cache_holds_max_target_length_and_every_leaf_counts_slots_first():
    config = family("qwen3", dtype="bfloat16")
    leaves = kv.declare(kv.sizes(config, 7))
    prefill, generated = leaves["cached_prefill_key"].shape, leaves["cached_ar_key"].shape
    assert (prefill[1], prefill[1] + generated[1]) == (config.max_prefill_predict_length, config.max_target_length)
    assert prefill[2:] == generated[2:] == (config.num_kv_heads, config.head_dim)
    for name, leaf in leaves.items():
        assert (leaf.axes[0], leaf.shape[0], len(leaf.axes)) == ("cache_batch", 7, len(leaf.shape)), name
    assert {leaf.dtype for name, leaf in leaves.items() if name.endswith(("key", "value"))} == {jnp.dtype("bfloat16")}


def test_a_prompt_is_written_from_column_0_and_read_back_with_its_validity():
    before = used()
    new = entries(4, 3, jnp.asarray([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]], jnp.int32))
    after = kv.write("prefill", before, new)
    cached = kv.read(after)
    np.testing.assert_array_equal(cached.key[:, :3], new.key)
    np.testing.assert_array_equal(cached.value[:, :3], new.value)
    np.testing.assert_array_equal(cached.positions[:, :3], new.positions)
    np.testing.assert_array_equal(cached.valid[:, :3], np.asarray(new.segment_ids) == 1)
    np.testing.assert_array_equal(cached.key[:, 3:5], before["cached_prefill_key"][:, 3:])
    for name in before:
        if "_ar_" in name:
            np.testing.assert_array_equal(after[name], before[name])


def test_a_token_goes_to_its_slots_own_length_and_idle_or_full_slots_stay():
    before = used()
    new = entries(4, 1, jnp.asarray([[1], [1], [1], [0]], jnp.int32))
    after = kv.write("autoregressive", before, new)
    assert after["cached_ar_lengths"].tolist() == [2, 1, 3, 2]
    for name in before:
        expected = np.array(before[name])
        if name in ("cached_ar_key", "cached_ar_value", "cache_ar_position", "cache_ar_segment_id"):
            part = {"key": new.key, "value": new.value, "position": new.positions, "segment_id": new.segment_ids}
            column = np.asarray(part[name.removeprefix("cached_ar_").removeprefix("cache_ar_")])[:, 0]
            expected[0, 1], expected[1, 0] = column[0], column[1]
        if name != "cached_ar_lengths":
            np.testing.assert_array_equal(after[name], expected, err_msg=name)


def test_what_is_written_takes_the_caches_dtype():
    leaves = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in kv.declare(SIZES).items()}
    new = entries(4, 2, jnp.ones((4, 2), jnp.int32), dtype="bfloat16")
    after = kv.write("prefill", leaves, new)
    assert {name: leaf.dtype for name, leaf in after.items()} == {name: leaf.dtype for name, leaf in leaves.items()}
    np.testing.assert_array_equal(after["cached_prefill_key"][:, :2], np.asarray(new.key, np.float32))


@pytest.mark.parametrize(
    ("mode", "length", "message"),
    [
        ("prefill", 6, "prompt of 6 tokens does not fit max_prefill_predict_length=5"),
        ("autoregressive", 2, "mode 'autoregressive' with 2 tokens"),
        ("train", 1, "mode 'train' with 1 tokens"),
    ],
)
def test_refused(mode, length, message):
    with pytest.raises(ValueError, match=message):
        kv.write(mode, used(), entries(4, length, jnp.ones((4, length), jnp.int32)))


@pytest.mark.parametrize("window", [-1, 2])
def test_padding_reaches_no_valid_query_whatever_it_holds(window):
    segments = jnp.asarray([[1, 1, 1, 0, 0]] * 4, jnp.int32)
    positions = jnp.tile(jnp.arange(5, dtype=jnp.int32), (4, 1))
    fresh = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in kv.declare(SIZES).items()}
    query = drawn((4, 5, 2 * SIZES.heads, SIZES.size), jnp.dtype("float32"), 60)

    def mixed(padding):
        new = entries(4, 5, segments)._replace(positions=positions)
        new = new._replace(key=new.key.at[:, 3:].add(padding), value=new.value.at[:, 3:].multiply(padding))
        cached = kv.read(kv.write("prefill", fresh, new))
        mask = cached_mask(positions, cached.positions, cached.valid, window=window)
        return np.asarray(attend(query, cached.key, cached.value, mask))

    one, other = mixed(3.7), mixed(-811.0)
    np.testing.assert_array_equal(one[:, :3], other[:, :3])
    assert np.all(np.isfinite(one))
    # From their third row on, padded queries of a short window see nothing valid and average everything, padding too.
    assert np.array_equal(one[:, 4], other[:, 4]) == (window < 0)
