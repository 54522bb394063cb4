"""Both sides' gradients against difference quotients of the plain model's loss, leaf by leaf in random directions."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from impl.linen.blocks import BLOCK_CLASSES as LINEN_BLOCKS
from impl.nnx.blocks import BLOCK_CLASSES as NNX_BLOCKS
from impl.params import declare
from tests.impl.plain.cases import CASES, SETTINGS, SIDES, SLOPES
from tests.impl.plain.gradients import STEP, along, drawn, gradient_room, leaf_room, slope

ELSEWHERE = {"gemma3": "gemma2's with one layer: its logits are held against the plain model, no gradients are"}
"""Blocks whose gradients are not compiled here -> why."""


@functools.cache
def slopes(name):
    """Leaf -> the exact slope along its random direction."""
    return {leaf: slope(CASES[name], SETTINGS, {leaf: drawn(CASES[name], leaf)}) for leaf in CASES[name].weights}


def largest(gradients):
    return max(float(np.linalg.norm(value.astype(np.float64))) for value in gradients.values())


def worst(name, gradients):
    """The largest error of a leaf's slope, in units of its room, and that leaf."""
    case, length, errors = CASES[name], largest(gradients), {}
    for leaf, exact in slopes(name).items():
        error = abs(along(gradients[leaf], drawn(case, leaf)) - exact)
        errors[leaf] = error / leaf_room(case, length, gradients[leaf].size)
    leaf = max(errors, key=errors.__getitem__)
    return errors[leaf], leaf


@pytest.mark.parametrize("which", SIDES)
@pytest.mark.parametrize("name", SLOPES)
def test_every_leafs_gradient_has_the_plain_models_slope(name, which, gradients_of):
    gradients, _ = gradients_of(name, which)
    assert list(gradients) == [row.name for row in declare(CASES[name].config)] == list(slopes(name))
    error, leaf = worst(name, gradients)
    assert error <= 1.0, f"{leaf}: {error:.3g} times its room"


@pytest.mark.parametrize("which", SIDES)
@pytest.mark.parametrize("name", SLOPES)
def test_along_its_own_direction_a_gradient_is_as_steep_as_it_is_long(name, which, gradients_of):
    """Direction and length at once, over all weights together: a part that does not belong makes it less steep."""
    gradients, _ = gradients_of(name, which)
    length = float(np.sqrt(sum(np.sum(value.astype(np.float64) ** 2) for value in gradients.values())))
    found = slope(CASES[name], SETTINGS, {leaf: value / length for leaf, value in gradients.items()})
    assert abs(found - length) <= gradient_room(CASES[name], length)


@pytest.mark.parametrize("name", SLOPES)
def test_the_step_of_the_differences_is_small_enough(name, gradients_of):
    """Twice the step makes the error four times as large: what is left at one step is a third of the change.

    That may be less than the loss is rounded to; of a step a hundred times as long it is not.
    """
    case, gradients = CASES[name], gradients_of(name, "nnx")[0]
    for leaf in ("decoder/decoder_norm/scale", "token_embedder/embedding"):
        direction = {leaf: drawn(case, leaf)}
        fine, coarse, far = (slope(case, SETTINGS, direction, times * STEP) for times in (1.0, 2.0, 100.0))
        room = leaf_room(case, largest(gradients), gradients[leaf].size)
        assert abs(fine - coarse) / 3.0 < 0.1 * room
        assert far != fine


@pytest.mark.parametrize("classes", [LINEN_BLOCKS, NNX_BLOCKS], ids=SIDES)
def test_every_class_of_block_is_here(classes):
    here = {classes[CASES[name].config.decoder_block] for name in SLOPES}
    assert here.isdisjoint(classes[block] for block in ELSEWHERE)
    assert here | {classes[block] for block in ELSEWHERE} == set(classes.values())


@pytest.mark.parametrize("leaf", ["decoder/layers/1/self_attention/out/kernel", "decoder/decoder_norm/scale"])
def test_a_leaf_off_by_a_percent_is_seen_and_named(leaf, gradients_of):
    gradients, _ = gradients_of("fused", "nnx")
    error, guilty = worst("fused", {**gradients, leaf: gradients[leaf] * np.float32(1.01)})
    assert error > 2.0
    assert guilty == leaf


def test_two_layers_exchanged_are_seen(gradients_of):
    gradients, _ = gradients_of("fused", "nnx")
    one, two = (f"decoder/layers/{layer}/mlp/wo/kernel" for layer in (0, 1))
    error, guilty = worst("fused", {**gradients, one: gradients[two], two: gradients[one]})
    assert error > 100.0
    assert guilty in (one, two)


def test_a_part_in_another_direction_is_seen_along_its_own(gradients_of):
    gradients, _ = gradients_of("fused", "nnx")
    leaf = "token_embedder/embedding"
    strange = {**gradients, leaf: gradients[leaf] + np.float32(0.05) * drawn(CASES["fused"], leaf)}
    length = float(np.sqrt(sum(np.sum(value.astype(np.float64) ** 2) for value in strange.values())))
    found = slope(CASES["fused"], SETTINGS, {leaf: value / length for leaf, value in strange.items()})
    assert abs(found - length) > 10.0 * gradient_room(CASES["fused"], length)
