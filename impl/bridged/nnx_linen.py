"""pure_nnx, enable_nnx, not pure_nnx_decoder: an NNX Transformer around the Linen decoder (ToNNX)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import bridge

from impl.config import ModelConfig
from impl.head import finish, rounded_table
from impl.linen.transformer import Decoder
from impl.math.head import tied_logits
from impl.nnx import trainer
from impl.nnx.transformer import embed
from impl.training.prediction import check_predictable

__all__ = ["Trainer", "Transformer"]


class Transformer(nnx.Module):
    """As `impl.nnx.Transformer`, with the decoder still in Linen; it is initialised lazily, from a sample input."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        check_predictable(self, config)
        self.config = config
        self.token_embedder = embed(config, config.vocab_size, rngs)
        linen = Decoder(config, deterministic=config.dropout_rate == 0.0)
        row = jnp.ones((1, config.max_target_length), jnp.int32)
        with nnx.use_eager_sharding(False):
            self.decoder = bridge.ToNNX(linen, rngs=rngs).lazy_init(self.token_embedder(row), row, row)

    def __call__(self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        # Called inside a Linen module, ToNNX makes Variables of what Linen returns, and would place them on a mesh.
        with nnx.use_eager_sharding(False):
            x = self.decoder(self.token_embedder(tokens), positions, segment_ids)
        if self.config.logits_via_embedding and self.config.round_tied_table:
            return finish(tied_logits(x, rounded_table(self.token_embedder.embedding[...])), self.config)
        return finish(self.token_embedder.attend(x) if self.config.logits_via_embedding else x, self.config)


class Trainer(trainer.Trainer):
    """Trains the bridged model as an NNX model. Parameters of the decoder keep Linen's names."""

    build = Transformer
    layout = "layers_{i}"
