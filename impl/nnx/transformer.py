"""The NNX decoder model: embedding, groups of blocks (lists, or stacks under lax.scan; remat or none), norm, head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from impl import initializers, remat
from impl.config import ModelConfig
from impl.head import finish, rounded_table
from impl.math.head import tied_logits
from impl.nnx.activations import constrained
from impl.nnx.blocks import BLOCK_CLASSES, Cycle
from impl.nnx.fp8 import DIFFERENTIATED, Overwritten
from impl.nnx.layers import block_norm, dense, dropout, partitioned, promotion
from impl.nnx.mtp import MtpBlock
from impl.serving.kv import Mode
from impl.sharding.activations import HIDDEN, LOGITS
from impl.sharding.axes import attended, is_explicit, rows_of
from impl.stacks import Group, groups
from impl.training.objective import Batch

__all__ = ["Decoder", "Transformer", "embed", "logits"]


class Decoder(nnx.Module):
    """Embedded tokens [B, T, E] -> logits [B, T, V], or the last hidden state [B, T, E] where the head is tied."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, slots: int = 0):
        self.config = config
        if config.trainable_position_size:
            self.position_embedder = embed(config, config.trainable_position_size, rngs)
        self.dropout = dropout(config, rngs)
        for group in groups(config):
            setattr(self, group.name, _MADE[group.form](config, group, rngs, slots))
        self.decoder_norm = block_norm(config, config.normalization_layer_epsilon, rngs)
        if not config.logits_via_embedding:
            axes = ("embed_vocab", "vocab")
            self.logits_dense = dense(config, (config.emb_dim,), (config.vocab_size,), axes, False, rngs)

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode = "train") -> jax.Array:
        x = self.hidden(x, positions, segment_ids, mode)
        return x if self.config.logits_via_embedding else self.logits_dense(x)

    def hidden(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode = "train") -> jax.Array:
        """The last hidden state [B, T, E], after the final norm."""
        return self.decoder_norm(self.residual(self.entered(x, positions), positions, segment_ids, mode))

    def entered(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        """Embedded tokens [B, T, E] as the first layer takes them: with learned positions, through dropout."""
        if self.config.trainable_position_size:
            x = x + self.position_embedder(positions)
        return self.dropout(x)

    def residual(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode = "train") -> jax.Array:
        """The residual stream [B, T, E] after the last layer, before the final norm."""
        for group in groups(self.config):
            run = self._scan if group.form == "scanned" else self._loop
            x = run(group, x, positions, segment_ids, mode)
        return x

    def _loop(self, group: Group, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        held = getattr(self, group.name)
        layers = held if group.form == "listed" else (held,)
        if self.config.remat_policy == "none":
            for layer in layers:
                x = layer(x, positions, segment_ids, mode)
                x = constrained(x, HIDDEN)
            return x
        for layer in layers:
            graphdef, params, rest = nnx.split(layer, DIFFERENTIATED, ...)
            body = self._rematerialised(group, _block_step(graphdef, mode))
            x, rest = body(x, positions, segment_ids, (params, rest))
            nnx.update(layer, rest)
        return x

    def _scan(self, group: Group, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        """lax.scan over the stack. What no layer writes does not come back: returning Params would copy every weight,
        and differentiation, which returns the next value of a statistic, would add to it the gradient of the old one.
        """
        axis, stack = self.config.param_scan_axis, getattr(self, group.name)
        graphdef, params, statistics, rest = nnx.split(stack, nnx.Param, Overwritten, ...)
        params = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, min(axis, leaf.ndim - 1), 0), params)
        params = nnx.merge_state(params, statistics)
        body = self._rematerialised(group, _block_step(graphdef, mode))
        x, rest = jax.lax.scan(lambda carry, state: body(carry, positions, segment_ids, state), x, (params, rest))
        nnx.update(stack, rest)
        return x

    def _rematerialised(self, group: Group, body: Callable[..., Any]) -> Callable[..., Any]:
        return _held(self._recomputed(group, body))

    def _recomputed(self, group: Group, body: Callable[..., Any]) -> Callable[..., Any]:
        name = self.config.remat_policy
        if name == "none":
            return body
        # Under scan XLA cannot merge the recomputation with the forward pass, so the barrier would only cost time.
        return jax.checkpoint(body, policy=remat.policy(name), prevent_cse=group.form != "scanned")


def _held(body: Callable[..., Any]) -> Callable[..., Any]:
    """`body` whose first result, the hidden state, is held to its logical names."""

    def step(*args: Any) -> tuple[jax.Array, Any]:
        x, rest = body(*args)
        return constrained(x, HIDDEN), rest

    return step


def _block_step(graphdef: Any, mode: Mode) -> Callable[..., tuple[jax.Array, Any]]:
    """A pure function of one block: (x, positions, segment ids, (params, rest)) -> (x, rest after the call)."""

    def step(
        x: jax.Array, positions: jax.Array, segment_ids: jax.Array, state: tuple[Any, Any]
    ) -> tuple[jax.Array, Any]:
        block = nnx.merge(graphdef, *state, copy=True)
        x = block(x, positions, segment_ids, mode)
        return x, nnx.state(block, nnx.Not(DIFFERENTIATED))

    return step


def _list(config: ModelConfig, group: Group, rngs: nnx.Rngs, slots: int) -> nnx.List:
    block = BLOCK_CLASSES[config.decoder_block]
    return nnx.List([block(config, rngs=rngs, slots=slots, kind=kind) for kind in group.kinds])


def _block(config: ModelConfig, group: Group, rngs: nnx.Rngs, slots: int) -> nnx.Module:
    return Cycle(config, group.kinds, rngs=rngs, slots=slots)


def _stack(config: ModelConfig, group: Group, rngs: nnx.Rngs, slots: int) -> nnx.Module:
    """One block whose every Variable holds all layers: Params at param_scan_axis, everything else at axis 0."""

    @nnx.split_rngs(splits=group.count)
    @nnx.vmap(
        in_axes=0,
        out_axes=nnx.StateAxes({nnx.Param: config.param_scan_axis, ...: 0}),
        transform_metadata={nnx.PARTITION_NAME: group.name},
    )
    def create(rngs: nnx.Rngs) -> nnx.Module:
        if len(group.kinds) > 1:
            return Cycle(config, group.kinds, rngs=rngs, slots=slots)
        return BLOCK_CLASSES[config.decoder_block](config, rngs=rngs, slots=slots, kind=group.kinds[0])

    return create(rngs)


_MADE: dict[str, Callable[..., nnx.Module]] = {"listed": _list, "block": _block, "scanned": _stack}
"""Form of a group -> what makes its module."""


class Transformer(nnx.Module):
    """Tokens int [B, T], positions int [B, T], segment ids int [B, T] (0 is padding) -> logits [B, T, V] in dtype."""

    decoder_class = Decoder

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, slots: int = 0):
        self.config = config
        self.token_embedder = embed(config, config.vocab_size, rngs)
        self.decoder = self.decoder_class(config, rngs=rngs, slots=slots)
        if config.mtp_num_layers:
            self.mtp_block = MtpBlock(config, rngs=rngs)

    def __call__(
        self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode = "train"
    ) -> jax.Array:
        x = self.decoder(
            constrained(self.token_embedder(tokens, out_sharding=rows_of(tokens)), HIDDEN), positions, segment_ids, mode
        )
        return constrained(self._finished(x), LOGITS)

    def _finished(self, x: jax.Array) -> jax.Array:
        if self.config.logits_via_embedding:
            return logits(self.config, self.token_embedder, x)
        return finish(x, self.config)

    def hidden(
        self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode = "train"
    ) -> jax.Array:
        """The last hidden state [B, T, E]: what the head makes logits of."""
        x = constrained(self.token_embedder(tokens, out_sharding=rows_of(tokens)), HIDDEN)
        return self.decoder.hidden(x, positions, segment_ids, mode)

    def predict(self, batch: Batch, tiles: int) -> jax.Array:
        """The logits of a call, or the last hidden state where they are made in tiles, of which there are several then.

        On the way the block that predicts further sows what it is to learn from.
        """
        x = self.decoder.residual(self._entered(batch.tokens, batch.positions), batch.positions, batch.segment_ids)
        head = self._headed if tiles == 1 else self.decoder.decoder_norm
        self.mtp_block(x, batch, self._entered, head, tiles)
        return head(x)

    def _entered(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """Tokens as the first layer takes them: the one embedding of all layers."""
        return self.decoder.entered(
            constrained(self.token_embedder(tokens, out_sharding=rows_of(tokens)), HIDDEN), positions
        )

    def _headed(self, x: jax.Array) -> jax.Array:
        """The residual stream -> logits: the one final norm and head of all layers."""
        return constrained(logits(self.config, self.head_module, self.decoder.decoder_norm(x)), LOGITS)

    @property
    def head_module(self) -> nnx.Module:
        """What `logits` needs of this model: the embedding where the head is tied, else the last projection."""
        return self.token_embedder if self.config.logits_via_embedding else self.decoder.logits_dense


def logits(config: ModelConfig, head: nnx.Module, x: jax.Array) -> jax.Array:
    """The last hidden state [B, T, E] -> logits [B, T, V], with the head_module of a Transformer."""
    return finish(_attended(config, head, x) if config.logits_via_embedding else head(x), config)


def _attended(config: ModelConfig, embedder: nnx.Embed, x: jax.Array) -> jax.Array:
    """Hidden states against the embedding table."""
    if is_explicit():
        table = embedder.embedding[...]
        return attended(x, rounded_table(table) if config.round_tied_table else table)
    return tied_logits(x, rounded_table(embedder.embedding[...])) if config.round_tied_table else embedder.attend(x)


def embed(config: ModelConfig, rows: int, rngs: nnx.Rngs) -> nnx.Embed:
    """A table [rows, E] looked up in dtype."""
    return nnx.Embed(
        rows,
        config.emb_dim,
        dtype=jnp.dtype(config.dtype),
        param_dtype=jnp.dtype(config.weight_dtype),
        promote_dtype=promotion(config),
        embedding_init=initializers.embedding(),
        embedding_metadata=partitioned(("vocab", "embed_vocab")),
        rngs=rngs,
    )
