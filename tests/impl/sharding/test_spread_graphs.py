"""Steps on a mesh as graphs: proved without a device, and what only one side holds is seen beside the values."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from harness.graph.proof import prove
from harness.proving import proofs
from harness.recorder import lower
from harness.registry import load_pair
from impl.config import ConfigError
from impl.params import draw
from impl.sharding.axes import check_typed
from impl.sharding.default import DEFAULT
from impl.sharding.plan import Plan
from impl.tiny import family
from impl.training.settings import TrainSettings

PAIR = load_pair("impl")
PLAN = Plan(mesh={"data": 2, "fsdp": 2, "tensor": 2}, zero=1)
SETTINGS = {
    "config": family("gemma2", vocab_size=260, num_decoder_layers=1),
    "train": TrainSettings(num_vocab_tiling=4),
    "plan": PLAN,
    "rows": 4,
}

LEAVES = draw(SETTINGS["config"], 0)


def step(**changes):
    """The proof of both sides' steps, the right one's settings with `changes`."""
    sides = PAIR.sides["linen"], PAIR.sides["nnx"]
    *_, found = proofs(sides, (SETTINGS, SETTINGS | changes), "sharded_train")
    assert found.part == "step"
    return found


def test_a_step_on_a_mesh_is_proved_with_all_that_it_holds():
    found = step()
    assert found.proof.proved
    assert (found.proof.constraints, found.proof.barriers) == ((), ())
    assert str(found.lowered[0].ir).count("sdy.sharding_constraint") > 2 * len(LEAVES)


def test_activations_under_another_rule_change_no_value_and_are_seen():
    rules = tuple((name, () if name == "activation_embed" else axes) for name, axes in DEFAULT.logical)
    found = step(plan=replace(PLAN, rules=replace(DEFAULT, logical=rules))).proof
    assert found.proved
    assert {mark.type for mark in found.constraints} == {"f32[4,24,20]"}


@pytest.mark.parametrize("scan", [False, True])
def test_explicit_axes_go_through_the_whole_step_and_every_type_is_compared(scan):
    config = family("gemma2", vocab_size=260, num_decoder_layers=2, scan_layers=scan)
    explicit = {"config": config, "plan": replace(PLAN, zero=0, axis_types="explicit")}
    *_, found = proofs((PAIR.sides["linen"], PAIR.sides["nnx"]), (SETTINGS | explicit,) * 2, "sharded_train")
    assert found.proof.proved
    assert (found.proof.constraints, found.proof.barriers) == ((), ())
    assert str(found.lowered[1].ir).count("sdy.sharding_constraint") > 500


def test_what_explicit_axes_do_not_go_through_is_refused_by_name():
    plan = Plan(mesh={"context": 2, "data": 2}, axis_types="explicit", zero=1)
    message = "does not go through biases, ZeRO-1, positions or layers that are split: choose 'boundary'"
    with pytest.raises(ConfigError, match=message):
        check_typed(family("fused"), plan)
    check_typed(family("fused"), replace(plan, axis_types="boundary"))
    check_typed(family("qwen3"), replace(PLAN, zero=0, axis_types="explicit"))


def test_slots_that_are_split_on_one_side_only_are_seen():
    found = step(plan=replace(PLAN, zero=0)).proof
    assert found.proved
    assert {mark.program for mark in found.constraints} == {0, 1}
    assert all(mark.instead and mark.instead != mark.text for mark in found.constraints)


def test_bodies_of_shard_map_are_equal_only_if_they_say_the_same_of_the_same_devices():
    mesh = AbstractMesh((2, 2), ("rows", "words"), axis_types=(AxisType.Auto,) * 2)

    def summed(axis, factor):
        def run(x):
            body = jax.shard_map(
                lambda part: jax.lax.psum(part * factor, axis),
                mesh=mesh,
                in_specs=PartitionSpec("rows", "words"),
                out_specs=PartitionSpec(*(None if name == axis else name for name in ("rows", "words"))),
            )
            return {"y": jnp.sum(body(x["x"]))}

        return lower(run, ({"x": jax.ShapeDtypeStruct((4, 6), "float32")},))

    first = summed("rows", 3.0)
    assert prove(first, summed("rows", 3.0)).proved
    assert not prove(first, summed("rows", 2.0)).proved
    assert not prove(first, summed("words", 3.0)).proved
