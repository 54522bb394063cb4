"""The name map: total both ways, every problem told at once, stacked layers taken apart and put together again."""

import numpy as np
import pytest

from harness.binding import bind, renamed
from harness.names import Leaf, NameMapError, gather, spread, table


def leaf(*shape, dtype="float32"):
    return Leaf(shape=shape, dtype=dtype)


LINEN = {
    ("params", ("Dense_0", "kernel")): leaf(3, 5),
    ("params", ("Dense_0", "bias")): leaf(5),
    ("params", ("Block_0", "Dense_0", "kernel")): leaf(5, 2),
    ("batch_stats", ("BatchNorm_0", "mean")): leaf(5),
}
NNX = {
    ("params", ("linear", "kernel")): leaf(3, 5),
    ("params", ("linear", "bias")): leaf(5),
    ("params", ("blocks", "0", "dense", "kernel")): leaf(5, 2),
    ("batch_stats", ("norm", "mean")): leaf(5),
}
RENAMES = {"Dense_0": "linear", "Block_0": "blocks/0", "Block_0/Dense_0": "blocks/0/dense", "BatchNorm_0": "norm"}


def filled(names):
    rng = np.random.default_rng(3)
    return {row.name: rng.standard_normal(row.leaf.shape).astype(row.leaf.dtype) for row in names.rows}


def problems(linen, nnx, renames, stacks=()):
    with pytest.raises(NameMapError) as caught:
        bind(linen, nnx, renames, dict(stacks))
    return caught.value.problems


def test_longest_prefix_wins():
    assert renamed(("Block_0", "Dense_0", "kernel"), RENAMES) == ("blocks", "0", "dense", "kernel")
    assert renamed(("Block_0", "scale"), RENAMES) == ("blocks", "0", "scale")
    assert renamed(("Dense_01", "kernel"), RENAMES) == ("Dense_01", "kernel")


def test_weights_travel_both_ways():
    names = bind(LINEN, NNX, RENAMES, {})
    weights = filled(names)
    for side, leaves in (("linen", LINEN), ("nnx", NNX)):
        stored = spread(names, side, weights)
        assert stored.keys() == leaves.keys()
        back = gather(names, side, stored)
        assert list(back) == list(weights)
        assert all(np.array_equal(back[name], weights[name]) for name in weights)
    assert table(names)["params/Dense_0/kernel"] == {"linen": "params/Dense_0/kernel", "nnx": "params/linear/kernel"}


def test_every_problem_is_told_with_its_cure():
    nnx = {**NNX, ("params", ("linear", "bias")): leaf(6), ("params", ("head", "kernel")): leaf(4, 9)}
    told = "\n".join(problems(LINEN, nnx, {**RENAMES, "BatchNorm_0": "normm"}))
    assert "linen params/Dense_0/bias is float32[5], nnx params/linear/bias is float32[6]" in told
    assert "linen batch_stats/BatchNorm_0/mean float32[5]: nnx has no batch_stats/normm/mean" in told
    assert 'nearest: batch_stats/norm/mean float32[5]; cure: renames={"BatchNorm_0": "norm"}' in told
    assert "nnx params/head/kernel float32[4, 9]" in told


def test_nearest_prefers_the_equal_shape():
    nnx = {("params", ("dense_00", "kernel")): leaf(9, 9), ("params", ("projection", "kernel")): leaf(3, 5)}
    linen = {("params", ("dense_0", "kernel")): leaf(3, 5)}
    told = problems(linen, nnx, {})
    assert 'cure: renames={"dense_0": "projection"}' in told[0]


def test_dtype_two_into_one_and_stale_renames():
    told = problems(LINEN, {**NNX, ("params", ("linear", "kernel")): leaf(3, 5, dtype="bfloat16")}, RENAMES)
    assert len(told) == 1
    assert "bfloat16[3, 5]" in told[0]
    twice = {**LINEN, ("params", ("Dense_1", "kernel")): leaf(3, 5)}
    told = problems(twice, NNX, {**RENAMES, "Dense_1": "linear", "Dense_9": "tail"})
    assert sum("both renamed" in text or "another leaf" in text for text in told) == 2
    assert any("renames['Dense_9'] matches no Linen leaf" in text for text in told)


@pytest.mark.parametrize("axis", [0, 1])
def test_stacked_layers(axis):
    shape = [3, 5]
    shape.insert(axis, 11)
    stacked = {("params", ("layers", "dense", "kernel")): leaf(*shape)}
    single = {("params", ("layers", str(layer), "kernel")): leaf(3, 5) for layer in range(11)}
    for side, (linen, nnx) in {"linen": (stacked, single), "nnx": (single, stacked)}.items():
        pairs = {f"layers/{layer}/dense": f"layers/{layer}" for layer in range(11)}
        renames = pairs if side == "linen" else {value: key for key, value in pairs.items()}
        names = bind(linen, nnx, renames, {f"{side}/layers": axis})
        weights = filled(names)
        stored = spread(names, side, weights)
        assert {key: Leaf.of(array) for key, array in stored.items()} == stacked
        array = stored["params", ("layers", "dense", "kernel")]
        # Layer 10 by number, not by text.
        tenth = next(value for name, value in weights.items() if "/10/" in name)
        assert np.array_equal(array.take(10, axis), tenth)
        assert all(np.array_equal(value, weights[name]) for name, value in gather(names, side, stored).items())


def test_a_stack_without_its_axis():
    assert "without axis 2" in problems(LINEN, NNX, RENAMES, {"linen/Dense_0": 2})[0]


def test_loading_and_reading_are_strict():
    names = bind(LINEN, NNX, RENAMES, {})
    weights = filled(names)
    wrong = {**weights, "params/Dense_0/bias": np.ones(4, "float32"), "params/ghost": np.ones(2, "float32")}
    del wrong["batch_stats/BatchNorm_0/mean"]
    with pytest.raises(NameMapError) as caught:
        spread(names, "nnx", wrong)
    assert len(caught.value.problems) == 3
    stored = spread(names, "nnx", weights)
    stored["params", ("extra",)] = stored.pop(("params", ("linear", "bias")))
    with pytest.raises(NameMapError) as caught:
        gather(names, "nnx", stored)
    assert len(caught.value.problems) == 2
