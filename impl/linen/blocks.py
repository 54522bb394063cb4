"""Decoder blocks in Linen: the pre-norm block of llama2, mistral and qwen3, gemma2's two sublayers, gpt3's block."""

from __future__ import annotations

import jax
from flax import linen as nn

from impl.config import ModelConfig
from impl.linen.attention import Attention
from impl.linen.layers import Mlp, block_norm, dropout
from impl.serving.kv import Mode

__all__ = ["BLOCK_CLASSES", "Gemma2Block", "Gpt3Block", "LlamaBlock"]


class LlamaBlock(nn.Module):
    """x + attention(norm(x)), then + mlp(norm(.)). [B, T, E] -> [B, T, E]."""

    config: ModelConfig
    mode: Mode
    deterministic: bool

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        config, epsilon = self.config, self.config.normalization_layer_epsilon
        normed = block_norm(config, "pre_self_attention_layer_norm", epsilon)(x)
        x = x + Attention(config, self.mode, name="self_attention")(normed, positions, segment_ids)
        normed = block_norm(config, "post_self_attention_layer_norm", epsilon)(x)
        x = x + Mlp(config, self.deterministic, name="mlp")(normed)
        return dropout(config, "dropout")(x, deterministic=self.deterministic)


class Gpt3Block(nn.Module):
    """x + attention(norm(x)), then + mlp(.), which norms its own input. [B, T, E] -> [B, T, E]."""

    config: ModelConfig
    mode: Mode
    deterministic: bool

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        config = self.config
        normed = block_norm(config, "pre_self_attention_norm", config.normalization_layer_epsilon)(x)
        x = x + Attention(config, self.mode, name="self_attention")(normed, positions, segment_ids)
        x = x + Mlp(config, self.deterministic, name="mlp")(x)
        return dropout(config, "dropout")(x, deterministic=self.deterministic)


class Gemma2Block(nn.Module):
    """A local (sliding-window) sublayer, then a global one, each with optional norms after attention and MLP.

    The block norms use epsilon 1e-6 whatever the configuration says, as MaxText does; only the final norm follows it.
    """

    config: ModelConfig
    mode: Mode
    deterministic: bool

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        x = self._sublayer("local", self.config.sliding_window_size, x, positions, segment_ids)
        return self._sublayer("global", -1, x, positions, segment_ids)

    def _sublayer(
        self, part: str, window: int, x: jax.Array, positions: jax.Array, segment_ids: jax.Array
    ) -> jax.Array:
        config = self.config
        normed = block_norm(config, f"pre_self_attention_norm_{part}", 1e-6)(x)
        mixed = Attention(config, self.mode, window, name=f"self_attention_{part}")(normed, positions, segment_ids)
        if config.use_post_attn_norm:
            mixed = block_norm(config, f"post_self_attention_norm_{part}", 1e-6)(mixed)
        x = x + mixed
        normed = block_norm(config, f"pre_ffw_norm_{part}", 1e-6)(x)
        hidden = Mlp(config, self.deterministic, name=f"mlp_{part}")(normed)
        if config.use_post_ffw_norm:
            hidden = block_norm(config, f"post_ffw_norm_{part}", 1e-6)(hidden)
        return dropout(config, f"dropout_{part}")(x + hidden, deterministic=self.deterministic)


BLOCK_CLASSES: dict[str, type[nn.Module]] = {
    "gemma2": Gemma2Block,
    "gpt3": Gpt3Block,
    "llama2": LlamaBlock,
    "mistral": LlamaBlock,
    "qwen3": LlamaBlock,
}
