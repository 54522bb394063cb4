"""Multi-token prediction in NNX: layers that look one token further each, sharing embedding, final norm and head."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from impl.config import ModelConfig
from impl.math.mtp import ahead, further_loss, places_with_target
from impl.nnx.activations import constrained
from impl.nnx.blocks import BLOCK_CLASSES
from impl.nnx.layers import block_norm, dense
from impl.prediction import layer_name, part_name
from impl.sharding.activations import HIDDEN
from impl.stacks import predictors
from impl.training.objective import Batch
from impl.training.prediction import GUESSES, LOSSES, PLACES, STREAMS, WEIGHTS

__all__ = ["MtpAcceptance", "MtpBlock", "MtpLayer", "MtpLosses"]


class MtpLosses(nnx.Intermediate):
    """What the block sows to be learnt from. A kind of Intermediate, so that no state that is kept ever holds one."""


class MtpAcceptance(nnx.Intermediate):
    """What the block sows to be counted."""


class MtpLayer(nnx.Module):
    """Layer k: its own norms, the projection of both streams onto [B, T, E], one block of the decoder's kind."""

    def __init__(self, config: ModelConfig, number: int, kind: str, *, rngs: nnx.Rngs):
        epsilon, width = config.normalization_layer_epsilon, (config.emb_dim,)
        self.number = number
        setattr(self, part_name(number, "embedding_norm"), block_norm(config, epsilon, rngs))
        setattr(self, part_name(number, "hidden_state_norm"), block_norm(config, epsilon, rngs))
        projection = dense(config, (2 * config.emb_dim,), width, ("embed", None), False, rngs)
        setattr(self, part_name(number, "projection"), projection)
        block = BLOCK_CLASSES[config.decoder_block](config, rngs=rngs, kind=kind)
        setattr(self, part_name(number, "transformer_layer"), block)

    def __call__(self, x: jax.Array, embedded: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        joined = (self._part("embedding_norm")(embedded), self._part("hidden_state_norm")(x))
        x = self._part("projection")(jnp.concatenate(joined, axis=-1))
        return self._part("transformer_layer")(x, positions, segment_ids, "train")

    def _part(self, part: str) -> Callable[..., jax.Array]:
        return getattr(self, part_name(self.number, part))


class MtpBlock(nnx.Module):
    """All layers, each on the stream of the one before and on tokens one further, inside their segments.

    Sown: losses and weights of the layers [n]; of layer mtp_eval_target_module its guesses and their places [B, T]. Or,
    where the loss is made in tiles, the layers' last hidden states [n, B, T, E].
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        for place in predictors(config):
            setattr(self, layer_name(place.layer), MtpLayer(config, place.layer, place.kind, rngs=rngs))

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
            layer = getattr(self, layer_name(k))
            embedded = enter(ahead(batch.tokens, inside, k), ahead(batch.positions, inside, k))
            x = constrained(layer(x, embedded, batch.positions, inside), HIDDEN)
            made.append(head(x))
        if tiles > 1:
            self.sow(MtpLosses, STREAMS, jnp.stack(made))
            return
        for k, logits in enumerate(made, 1):
            places = places_with_target(batch.target_segments, inside, k)
            losses.append(further_loss(logits, ahead(batch.targets, inside, k), places))
            weights.append(jnp.sum(places))
            if k == config.mtp_eval_target_module:
                self.sow(MtpAcceptance, GUESSES, jnp.argmax(logits, axis=-1))
                self.sow(MtpAcceptance, PLACES, places)
        self.sow(MtpLosses, LOSSES, jnp.stack(losses))
        self.sow(MtpLosses, WEIGHTS, jnp.stack(weights))
