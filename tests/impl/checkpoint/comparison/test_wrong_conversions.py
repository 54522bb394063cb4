"""Wrong conversions that the upstream comparator calls equal, or dies of at the first leaf. Each is told, leaf by leaf.

Letters: E 6 embed, square kernels [E, E] so that a transposed one has the same shape, 1 dense and 3 mixture layers.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from impl.checkpoint import Terms, compare_under, save_tree
from impl.checkpoint.progress import untold

VALUES = Terms(values="values")


@pytest.fixture(scope="module")
def linen(nested, draw):
    """A D1 train state of an unscanned mixture model: dense_layers_0, moe_layers_0 to 2, and a module called wrng."""

    def model(salt):
        leaves = {
            "token_embedder/embedding": draw("embedding" + salt, (11, 6)),
            "decoder/decoder_norm/scale": draw("norm" + salt, (6,)),
            "decoder/wrng/kernel": draw("wrng" + salt, (6, 6)),
        }
        for name in ("dense_layers_0", "moe_layers_0", "moe_layers_1", "moe_layers_2"):
            leaves |= {
                f"decoder/{name}/mlp/wi/kernel": draw(name + "wi" + salt, (6, 6)),
                f"decoder/{name}/self_attention/out/kernel": draw(name + "out" + salt, (6, 6), "bfloat16"),
                f"decoder/{name}/norm/scale": draw(name + "norm" + salt, (6,)),
            }
        return nested(leaves)

    adam = {"count": np.int32(5), "mu": {"params": model("mu")}, "nu": {"params": model("nu")}}
    return {"params": {"params": model("")}, "opt_state": [adam, None, {"count": np.int32(5)}], "step": np.int32(5)}


@pytest.fixture(scope="module")
def left(linen, tmp_path_factory):
    """The Linen checkpoint on disk."""
    folder = tmp_path_factory.mktemp("linen") / "checkpoint"
    save_tree(folder, linen)
    return folder


def converted(linen):
    """The same state as NNX writes it: no "params" levels, an optimizer, a step of its own dtype."""
    state = copy.deepcopy(linen)
    adam, _, schedule = state["opt_state"]
    adam |= {name: adam[name]["params"] for name in ("mu", "nu")}
    model = state["params"]["params"]
    return {"model": model, "optimizer": {"opt_state": {"0": adam, "2": schedule}, "step": np.uint32(5)}}


def orphans(names):
    """How slots are told whose weights are not there."""
    each = [(slot, name) for slot in ("0/mu", "0/nu") for name in names]
    return {(f"slot {slot}", name) for slot, name in each} | {("scalars", f"{slot}/{name}") for slot, name in each}


def transposed(state):
    """Axes 0 and 1 swapped below whatever is called layers, though nothing is scanned."""
    for name, layer in state["model"]["decoder"].items():
        if "layers" in name:
            layer["mlp"]["wi"]["kernel"] = layer["mlp"]["wi"]["kernel"].T.copy()
    return {("weights", f"decoder/{name}_{index}/mlp/wi/kernel") for name, index in LAYERS}


def renumbered(state):
    """Mixture layers shifted by the dense ones, as if one counter ran through both."""
    decoder = state["model"]["decoder"]
    decoder["moe_layers_0"], decoder["moe_layers_1"] = decoder["moe_layers_1"], decoder["moe_layers_0"]
    return {("weights", f"decoder/moe_layers_{index}/{rest}") for index in (0, 1) for rest in RESTS}


def slots_left_behind(state):
    """Weights of the mixture layers renamed, mu and nu under the old names."""
    decoder = state["model"]["decoder"]
    decoder["layers"] = {str(index): decoder.pop(f"moe_layers_{index}") for index in range(3)}
    rests = [(index, rest) for index in range(3) for rest in RESTS]
    old = {f"decoder/moe_layers_{index}/{rest}" for index, rest in rests}
    new = {("weights", f"decoder/layers_{index}/{rest}") for index, rest in rests}
    return new | {("weights", name) for name in old} | orphans(old)


def slots_swapped(state):
    """mu and nu exchanged."""
    adam = state["optimizer"]["opt_state"]["0"]
    adam["mu"], adam["nu"] = adam["nu"], adam["mu"]
    return {(part, name) for part in ("slot 0/mu", "slot 0/nu") for name in all_names()}


def slots_dropped(state):
    """nu is not written at all."""
    del state["optimizer"]["opt_state"]["0"]["nu"]
    return {("slot 0/nu", name) for name in all_names()}


def rng_in_a_name(state):
    """A weight whose path holds "rng" is not a random stream."""
    state["model"]["decoder"]["wrng"]["kernel"][3, 4] += 1
    return {("weights", "decoder/wrng/kernel")}


def one_child_lost(state):
    """A child that one layer lacks is dropped in silence."""
    del state["model"]["decoder"]["moe_layers_1"]["norm"]
    name = "decoder/moe_layers_1/norm/scale"
    return {("weights", name)} | orphans({name})


def within_the_usual_tolerance(state):
    """A relative change of 1e-6 in every element of one slot."""
    mu = state["optimizer"]["opt_state"]["0"]["mu"]
    mu["token_embedder"]["embedding"] *= np.float32(1 + 1e-6)
    return {("slot 0/mu", "token_embedder/embedding")}


def rounded(state):
    """A float32 leaf stored as bfloat16."""
    import ml_dtypes

    scale = state["model"]["decoder"]["decoder_norm"]
    scale["scale"] = scale["scale"].astype(ml_dtypes.bfloat16)
    return {("weights", "decoder/decoder_norm/scale")}


def step_off_by_one(state):
    """Final saves count from 0 or from 1."""
    state["optimizer"]["step"] = np.uint32(6)
    return {("step", "")}


def a_count_reset(state):
    """The schedule starts again."""
    state["optimizer"]["opt_state"]["2"]["count"] = np.int32(0)
    return {("scalars", "2/count")}


def several_at_once(state):
    """Every difference is told, never only the first."""
    found = rng_in_a_name(state) | step_off_by_one(state) | a_count_reset(state) | one_child_lost(state)
    state["model"]["decoder"]["more"] = {"kernel": np.full((2, 3), 0.5, np.float32)}
    return found | {("weights", "decoder/more/kernel")}


LAYERS = [("dense_layers", 0), ("moe_layers", 0), ("moe_layers", 1), ("moe_layers", 2)]
RESTS = ("mlp/wi/kernel", "self_attention/out/kernel", "norm/scale")
FAULTS = (
    transposed,
    renumbered,
    slots_left_behind,
    slots_swapped,
    slots_dropped,
    rng_in_a_name,
    one_child_lost,
    within_the_usual_tolerance,
    rounded,
    step_off_by_one,
    a_count_reset,
    several_at_once,
)


def all_names():
    plain = {"token_embedder/embedding", "decoder/decoder_norm/scale", "decoder/wrng/kernel"}
    return plain | {f"decoder/{name}_{index}/{rest}" for name, index in LAYERS for rest in RESTS}


def test_the_right_conversion_is_equal(linen, left, tmp_path):
    save_tree(tmp_path / "nnx", converted(linen))
    record = compare_under(left, tmp_path / "nnx", VALUES, untold)
    assert (record.equal, record.compared) == (True, 3 * 15 + 2 + 1)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__ for fault in FAULTS])
def test_a_wrong_conversion_is_told_leaf_by_leaf(linen, left, tmp_path, fault):
    state = converted(linen)
    wanted = fault(state)
    save_tree(tmp_path / "nnx", state)
    record = compare_under(left, tmp_path / "nnx", VALUES, untold)
    # A leaf of an NNX model that no slot mirrors may be taken for state: told it is, either way.
    parts = {"state": "weights"}
    assert {(parts.get(row.part, row.part), row.path) for row in record.differences} == wanted
    assert record.missing + record.extra + record.differing == len(wanted)


def stacks(kernels, axis):
    model = {"decoder": {"layers": {"mlp": {"kernel": np.stack(kernels, axis)}}}}
    return {"params": {"params": model}}


def test_a_stack_along_another_axis_of_the_same_length_is_told(tmp_path, draw):
    """Four layers of [4, 5] stacked at axis 0, where the source has axis 1: shapes agree, values do not."""
    kernels = [draw(f"kernel{index}", (4, 5)) for index in range(4)]
    save_tree(tmp_path / "right", stacks(kernels, 1))
    save_tree(tmp_path / "wrong", stacks(kernels, 0))
    record = compare_under(tmp_path / "right", tmp_path / "wrong", VALUES, untold)
    assert [row.path for row in record.differences] == [f"decoder/layers_{index}/mlp/kernel" for index in range(4)]


def test_blocks_unrolled_by_the_number_of_blocks_alone_are_told(tmp_path, draw):
    """Two blocks of two layers are four layers; taken for two, half of them are lost and none is at its place."""
    blocks = {f"layers_{j}": {"w": np.stack([draw(f"w{i}{j}", (6, 7)) for i in range(2)], 1)} for j in range(2)}
    save_tree(tmp_path / "cycled", {"params": {"params": {"decoder": {"layers": blocks}}}})
    right = {f"layers_{2 * i + j}": {"w": draw(f"w{i}{j}", (6, 7))} for i in range(2) for j in range(2)}
    save_tree(tmp_path / "right", {"params": {"params": {"decoder": right}}})
    assert compare_under(tmp_path / "cycled", tmp_path / "right", VALUES, untold).equal
    wrong = {f"layers_{i}": {"w": draw(f"w{i}0", (6, 7))} for i in range(2)}
    save_tree(tmp_path / "wrong", {"params": {"params": {"decoder": wrong}}})
    record = compare_under(tmp_path / "cycled", tmp_path / "wrong", VALUES, untold)
    assert [(row.path, row.reason) for row in record.differences] == [
        ("decoder/layers_1/w", "value"),
        ("decoder/layers_2/w", "missing"),
        ("decoder/layers_3/w", "missing"),
    ]
