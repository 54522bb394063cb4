"""The tiled train step: compiled bytes, the bridges' refusal, and weights that are gathered once for all tiles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from impl.config import ConfigError
from impl.sides import side
from impl.tiny import family
from impl.training.memory import memory
from impl.training.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
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


SHARDED = """
import json, re
import jax
from jax.sharding import NamedSharding, PartitionSpec as P
from impl.math.head import tied_logits
from impl.math.tiling import Tiling, tiled_loss_terms

mesh = jax.make_mesh((4,), ("fsdp",))
TABLE, ROWS = (None, "fsdp"), ("fsdp",)

def placed(shape, dtype, spec):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))

def loss(table, hidden, targets, segments):
    terms = tiled_loss_terms(lambda w, h: tied_logits(h, w), Tiling(3, 0.01), table, hidden, targets, segments)
    return terms.xent_sum / terms.weights

labels = placed((8, 12), "int32", ROWS)
arguments = placed((40, 16), "float32", TABLE), placed((8, 12, 16), "float32", ROWS), labels, labels
slopes = jax.jit(jax.grad(loss, (0, 1)), out_shardings=tuple(leaf.sharding for leaf in arguments[:2]))
text = slopes.lower(*arguments).compile().as_text()
gathers, inside = {}, ""
for line in text.splitlines():
    head = re.match(r"(ENTRY )?%?([\\w.-]+) \\(.*{$", line)
    inside = ("entry" if head[1] else head[2]) if head else inside
    if re.search(r" all-gather(-start)?\\(", line):
        gathers[inside] = gathers.get(inside, 0) + 1
print(json.dumps({"gathers": gathers, "loops": len(re.findall(r" while\\(", text))}))
"""


def test_a_sharded_head_is_gathered_once_and_outside_the_loops_over_tiles():
    """A table split over fsdp, rows of the batch likewise: forward and backward share one gathered table."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"gathers": {"entry": 1}, "loops": 2}
