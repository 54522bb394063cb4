"""The tiled train step: compiled bytes, and the bridges' refusal."""

from __future__ import annotations

import jax
import pytest

from impl.config import ConfigError
from impl.sides import side
from impl.tiny import family
from impl.training.memory import memory
from impl.training.settings import TrainSettings

WORDS, LENGTH, ROWS = 4099, 64, 4


def needed(name, count):
    """Bytes of temporaries of a side's compiled gradients in `count` tiles; the logits outweigh everything else."""
    config = family("llama2", vocab_size=WORDS, num_decoder_layers=1, max_target_length=LENGTH)
    staged = side(name).Trainer.staged(config, TrainSettings(num_vocab_tiling=count), ROWS)["gradients"]
    return memory(jax.jit(staged.function).lower(staged.arguments).compile())["temp"]


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_compiled_bytes_shrink_with_the_number_of_tiles(name):
    logits = ROWS * LENGTH * WORDS * 4
    found = {count: needed(name, count) for count in (1, 4, 16)}
    # At once, logits and their cotangents live together. Tiles need theirs, and beside them the head's gradients.
    assert found[1] > 2 * logits
    assert found[1] - found[4] > 2 * logits * (1 - 1 / 2)
    assert found[4] - found[16] > 2 * logits * (1 / 4 - 1 / 8)
    assert found[16] < found[1] / 5


@pytest.mark.parametrize("name", ["linen_nnx_linen", "linen_nnx", "nnx_linen"])
def test_a_bridged_side_says_that_it_cannot_tile(name):
    with pytest.raises(ConfigError, match=r"num_vocab_tiling=4 needs a model with .*: train a native side, or set it"):
        needed(name, 4)
