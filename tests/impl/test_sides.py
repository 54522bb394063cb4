"""The table from the three flags to a side: five combinations, three refusals."""

from __future__ import annotations

import itertools

import pytest

from impl.config import ConfigError, tiny
from impl.sides import FLAGS, SIDES, resolve, side

MEANT = {
    # (pure_nnx, enable_nnx, pure_nnx_decoder)
    (False, False, False): "linen",
    (False, False, True): "",
    (False, True, False): "linen_nnx_linen",
    (False, True, True): "linen_nnx",
    (True, False, False): "",
    (True, False, True): "",
    (True, True, False): "nnx_linen",
    (True, True, True): "nnx",
}


def flagged(flags):
    return tiny(**dict(zip(("pure_nnx", "enable_nnx", "pure_nnx_decoder"), flags, strict=True)))


@pytest.mark.parametrize("flags", tuple(itertools.product((False, True), repeat=3)), ids=str)
def test_every_combination_of_flags_resolves_or_is_refused_with_a_sentence(flags):
    if MEANT[flags]:
        assert resolve(flagged(flags)) == MEANT[flags]
        return
    with pytest.raises(ConfigError) as refused:
        resolve(flagged(flags))
    message = str(refused.value)
    assert message.startswith(f"(pure_nnx, enable_nnx, pure_nnx_decoder) = {flags}: ")
    assert "without enable_nnx asks for NNX modules with NNX switched off" in message
    for known, name in FLAGS.items():
        assert f"{name}: {known}" in message


def test_five_sides_each_reached_by_one_combination_and_one_by_none():
    assert sorted([*FLAGS.values(), "nnx_linen_dots"]) == sorted(SIDES)
    assert sorted(FLAGS.values()) == sorted(filter(None, MEANT.values()))


@pytest.mark.parametrize("name", SIDES)
def test_a_side_is_a_module_with_a_trainer_of_its_own(name):
    module = side(name)
    assert module.__name__ == SIDES[name]
    assert module.Trainer.__module__.startswith(SIDES[name])


def test_an_unknown_side_is_refused_with_the_known_ones():
    with pytest.raises(
        ConfigError,
        match="no side is called 'flax': there are linen, linen_nnx_linen, linen_nnx, nnx_linen, nnx_linen_dots, nnx",
    ):
        side("flax")
