"""A native NNX model whose quantised products are still Flax's Linen operations, each in a ToNNX of its own.

No flag selects it: it is what a code base has that migrated its layers and not its quantisation. A ToNNX keeps a Linen
module; in older releases that module kept tracers which a scan's body or a rematerialised block then met again. The way
around it was to do without both: a loop takes each layer's leaves out of the stack, at the price of a graph that grows
with the layers. Flax 0.12.8 and 0.12.12 run the bridged operation inside a scan too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import bridge

from impl.config import ModelConfig
from impl.linen.fp8 import OPERATIONS
from impl.nnx import trainer, transformer
from impl.nnx.fp8 import DIFFERENTIATED, Fp8Dot
from impl.serving.kv import Mode
from impl.stacks import Group

__all__ = ["Decoder", "Trainer", "Transformer"]


class Decoder(transformer.Decoder):
    """As `impl.nnx.Decoder`; a stack of layers is run by a loop, whatever the configuration says."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, slots: int = 0):
        super().__init__(config, rngs=rngs, slots=slots)
        for _, module in nnx.iter_modules(self):
            if isinstance(getattr(module, "dot_general", None), Fp8Dot):
                module.dot_general = _bridged(config, module.dot_general)

    def _loop(self, group: Group, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        held = getattr(self, group.name)
        for layer in held if group.form == "listed" else (held,):
            x = layer(x, positions, segment_ids, mode)
        return x

    def _scan(self, group: Group, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        stack = getattr(self, group.name)
        graphdef, params, others = nnx.split(stack, nnx.Param, ...)
        apart = _apart(params, self.config.param_scan_axis), _apart(others, 0)
        changed = []
        for layer in zip(*apart, strict=True):
            block = nnx.merge(graphdef, *layer, copy=True)
            x = block(x, positions, segment_ids, mode)
            changed.append(nnx.state(block, nnx.Not(DIFFERENTIATED)))
        nnx.update(stack, jax.tree.map(lambda *leaves: jnp.stack(leaves), *changed))
        return x


class Transformer(transformer.Transformer):
    """As `impl.nnx.Transformer`, with the decoder above."""

    decoder_class = Decoder


def _apart(stack: nnx.State, axis: int) -> list[nnx.State]:
    """The layers of a stack; a split's gradient is a concatenation, where slices' would be a sum of padded ones."""

    def split(leaf: jax.Array) -> list[jax.Array]:
        at = min(axis, leaf.ndim - 1)
        return [part.squeeze(at) for part in jax.lax.split(leaf, [1] * leaf.shape[at], at)]

    leaves, structure = jax.tree.flatten(stack)
    return [jax.tree.unflatten(structure, layer) for layer in zip(*map(split, leaves), strict=True)]


def _bridged(config: ModelConfig, native: Fp8Dot) -> bridge.ToNNX:
    """Flax's operation in place of `native`, with statistics as many as `native` has: one of each, or a stack."""
    linen = OPERATIONS[config.quantization](config.amax_history_length)
    one = jnp.ones((1, 1), jnp.float32)
    made = bridge.ToNNX(linen).lazy_init(one, one, (((1,), (0,)), ((), ())))
    nnx.update(made, nnx.state(native))
    return made


class Trainer(trainer.Trainer):
    """Trains the model as an NNX model, under NNX's names."""

    build = Transformer
