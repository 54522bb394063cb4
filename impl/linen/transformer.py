"""The Linen decoder model: embedding, groups of blocks (a loop or nn.scan, with or without nn.remat), norm, head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

from impl import initializers, remat
from impl.config import ModelConfig
from impl.head import finish, rounded_table
from impl.linen.activations import constrained
from impl.linen.blocks import BLOCK_CLASSES, Cycle
from impl.linen.layers import block_norm, dense, dropout, promotion
from impl.linen.mtp import MtpBlock
from impl.math.head import tied_logits
from impl.serving.kv import Mode
from impl.sharding.activations import HIDDEN, LOGITS
from impl.sharding.axes import attended, is_explicit, looked_up
from impl.stacks import Group, groups
from impl.statistics import COLLECTION
from impl.training.objective import Batch

__all__ = ["Decoder", "Transformer", "embed"]


class Decoder(nn.Module):
    """Embedded tokens [B, T, E] -> logits [B, T, V], or the last hidden state [B, T, E] where the head is tied."""

    config: ModelConfig
    mode: Mode = "train"
    deterministic: bool = True
    mesh: Mesh | None = None

    def setup(self) -> None:
        config = self.config
        if config.trainable_position_size:
            self.position_embedder = embed(config, "position_embedder", config.trainable_position_size)
        self.dropout = dropout(config, "dropout")
        self.decoder_norm = block_norm(config, "decoder_norm", config.normalization_layer_epsilon)
        if not config.logits_via_embedding:
            axes = ("embed_vocab", "vocab")
            self.logits_dense = dense(config, "logits_dense", (config.vocab_size,), axes, 1, False)

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        return self.head(self.hidden(x, positions, segment_ids))

    def head(self, x: jax.Array) -> jax.Array:
        """The last hidden state [B, T, E] -> logits [B, T, V], or itself where the head is tied."""
        return x if self.config.logits_via_embedding else self.logits_dense(x)

    def hidden(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        """The last hidden state [B, T, E], after the final norm."""
        return self.decoder_norm(self.residual(self.entered(x, positions), positions, segment_ids))

    def entered(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        """Embedded tokens [B, T, E] as the first layer takes them: with learned positions, through dropout."""
        if self.config.trainable_position_size:
            x = x + self.position_embedder(positions)
        return self.dropout(x, deterministic=self.deterministic)

    @nn.compact
    def residual(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        """The residual stream [B, T, E] after the last layer, before the final norm."""
        for group in groups(self.config):
            run = self._scanned if group.form == "scanned" else self._looped
            x = run(group, x, positions, segment_ids)
        return x

    def _block(self, group: Group, kinds: tuple[str, ...], name: str) -> nn.Module:
        """One layer, or a module of several."""
        cycled, policy = len(kinds) > 1 or group.form == "block", self.config.remat_policy
        block: type[nn.Module] = Cycle if cycled else BLOCK_CLASSES[self.config.decoder_block]
        if policy != "none":
            # Under scan XLA cannot merge the recomputation with the forward pass, so the barrier would only cost time.
            block = nn.remat(block, policy=remat.policy(policy), prevent_cse=group.form != "scanned")
        return block(self.config, self.mode, self.deterministic, kinds if cycled else kinds[0], name=name)

    def _looped(self, group: Group, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        if group.form == "block":
            x = self._block(group, group.kinds, group.name)(x, positions, segment_ids)
            return constrained(x, HIDDEN, self.mesh)
        for layer, kind in zip(group.layers, group.kinds, strict=True):
            x = self._block(group, (kind,), f"{group.name}_{layer}")(x, positions, segment_ids)
            x = constrained(x, HIDDEN, self.mesh)
        return x

    def _scanned(self, group: Group, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        def step(block: nn.Module, carry: jax.Array, at: jax.Array, segments: jax.Array) -> tuple[jax.Array, None]:
            return constrained(block(carry, at, segments), HIDDEN, self.mesh), None

        scan = nn.scan(
            step,
            variable_axes={"params": self.config.param_scan_axis, COLLECTION: 0, "cache": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=group.count,
            metadata_params={nn.PARTITION_NAME: group.name},
        )
        x, _ = scan(self._block(group, group.kinds, group.name), x, positions, segment_ids)
        return x


class Transformer(nn.Module):
    """Tokens int [B, T], positions int [B, T], segment ids int [B, T] (0 is padding) -> logits [B, T, V] in dtype."""

    config: ModelConfig
    mode: Mode = "train"
    deterministic: bool = True
    mesh: Mesh | None = None

    def setup(self) -> None:
        self.token_embedder = embed(self.config, "token_embedder", self.config.vocab_size)
        self.decoder = Decoder(self.config, self.mode, self.deterministic, self.mesh)
        if self.config.mtp_num_layers:
            self.mtp_block = MtpBlock(self.config, self.deterministic, self.mesh)

    def __call__(self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        x = constrained(self._words(tokens), HIDDEN, self.mesh)
        if self.config.mtp_num_layers and self.is_initializing():
            # Nothing but `predict` calls the block; what it holds belongs to every model all the same.
            batch = Batch(tokens, positions, segment_ids, tokens, segment_ids)
            self.mtp_block(x, batch, self._entered, self._headed, 1)
        return constrained(self._finished(self.decoder(x, positions, segment_ids)), LOGITS, self.mesh)

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
        return self.decoder.entered(constrained(self._words(tokens), HIDDEN, self.mesh), positions)

    def _headed(self, x: jax.Array) -> jax.Array:
        """The residual stream -> logits: the one final norm and head of all layers."""
        return constrained(self.head(self.decoder.decoder_norm(x)), LOGITS, self.mesh)

    def hidden(self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        """The last hidden state [B, T, E]: what the head makes logits of."""
        x = constrained(self._words(tokens), HIDDEN, self.mesh)
        return self.decoder.hidden(x, positions, segment_ids)

    def head(self, x: jax.Array) -> jax.Array:
        """The last hidden state [B, T, E] -> logits [B, T, V]. It reads the parameters of `head_params` only."""
        return self._finished(self.decoder.head(x))

    def _words(self, tokens: jax.Array) -> jax.Array:
        """Rows of the table. nn.Embed cannot say how they are sharded, as explicit axes want it."""
        if not is_explicit():
            return self.token_embedder(tokens)
        return looked_up(self.token_embedder.embedding.astype(self.config.dtype), tokens)

    def _finished(self, x: jax.Array) -> jax.Array:
        """What the decoder returns -> logits."""
        config = self.config
        if config.logits_via_embedding and is_explicit():
            return finish(attended(x, _table(self.token_embedder.embedding, config)), config)
        if config.logits_via_embedding and config.round_tied_table:
            return finish(tied_logits(x, rounded_table(self.token_embedder.embedding)), config)
        return finish(self.token_embedder.attend(x) if config.logits_via_embedding else x, config)


def _table(table: jax.Array, config: ModelConfig) -> jax.Array:
    return rounded_table(table) if config.round_tied_table else table


def embed(config: ModelConfig, name: str, rows: int) -> nn.Embed:
    """A table [rows, E] looked up in dtype."""
    return nn.Embed(
        num_embeddings=rows,
        features=config.emb_dim,
        dtype=jnp.dtype(config.dtype),
        param_dtype=jnp.dtype(config.weight_dtype),
        promote_dtype=promotion(config),
        embedding_init=nn.with_logical_partitioning(initializers.embedding(), ("vocab", "embed_vocab")),
        name=name,
    )
