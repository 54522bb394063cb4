"""Multi-token prediction in Linen: layers that look one token further each, sharing embedding, final norm and head."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from impl.config import ModelConfig
from impl.linen.activations import constrained
from impl.linen.blocks import BLOCK_CLASSES
from impl.linen.layers import block_norm, dense
from impl.math.mtp import ahead, further_loss, places_with_target
from impl.prediction import layer_name, part_name
from impl.sharding.activations import HIDDEN
from impl.stacks import predictors
from impl.training.objective import Batch
from impl.training.prediction import GUESSES, LOSSES, PLACES, STREAMS, WEIGHTS

__all__ = ["ACCEPTANCE", "LOSS", "MtpBlock", "MtpLayer"]

LOSS, ACCEPTANCE = "mtp_losses", "mtp_acceptance"
"""The collections that the block sows into: what is learnt from, and what is only counted."""


class MtpLayer(nn.Module):
    """Layer k: its own norms, the projection of both streams onto [B, T, E], one block of the decoder's kind."""

    config: ModelConfig
    deterministic: bool
    number: int
    kind: str

    @nn.compact
    def __call__(self, x: jax.Array, embedded: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        config, k, epsilon = self.config, self.number, self.config.normalization_layer_epsilon
        joined = (
            block_norm(config, part_name(k, "embedding_norm"), epsilon)(embedded),
            block_norm(config, part_name(k, "hidden_state_norm"), epsilon)(x),
        )
        project = dense(config, part_name(k, "projection"), (config.emb_dim,), ("embed", None), 1, False)
        x = project(jnp.concatenate(joined, axis=-1))
        block, name = BLOCK_CLASSES[config.decoder_block], part_name(k, "transformer_layer")
        return block(config, "train", self.deterministic, self.kind, name=name)(x, positions, segment_ids)


class MtpBlock(nn.Module):
    """All layers, each on the stream of the one before and on tokens one further, inside their segments.

    Sown: losses and weights of the layers [n]; of layer mtp_eval_target_module its guesses and their places [B, T]. Or,
    where the loss is made in tiles, the layers' last hidden states [n, B, T, E].
    """

    config: ModelConfig
    deterministic: bool
    mesh: Mesh | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        batch: Batch,
        enter: Callable[[jax.Array, jax.Array], jax.Array],
        head: Callable[[jax.Array], jax.Array],
        tiles: int,
    ) -> None:
        """x: the decoder's residual stream [B, T, E]. enter, head: the model's, so that nothing of them is here.

        tiles: above 1 `head` goes as far as the last hidden state, of which logits are made later, a tile at a time.
        """
        config, inside, made, losses, weights = self.config, batch.segment_ids, [], [], []
        for place in predictors(config):
            k = place.layer
            layer = MtpLayer(config, self.deterministic, k, place.kind, name=layer_name(k))
            embedded = enter(ahead(batch.tokens, inside, k), ahead(batch.positions, inside, k))
            x = constrained(layer(x, embedded, batch.positions, inside), HIDDEN, self.mesh)
            made.append(head(x))
        if tiles > 1:
            self.sow(LOSS, STREAMS, jnp.stack(made))
            return
        for k, logits in enumerate(made, 1):
            places = places_with_target(batch.target_segments, inside, k)
            losses.append(further_loss(logits, ahead(batch.targets, inside, k), places))
            weights.append(jnp.sum(places))
            if k == config.mtp_eval_target_module:
                self.sow(ACCEPTANCE, GUESSES, jnp.argmax(logits, axis=-1))
                self.sow(ACCEPTANCE, PLACES, places)
        self.sow(LOSS, LOSSES, jnp.stack(losses))
        self.sow(LOSS, WEIGHTS, jnp.stack(weights))
