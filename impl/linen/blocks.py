"""Decoder blocks in Linen: llama2's, mistral's and qwen3's, gpt3's, gemma2's, gemma3's, olmo3's; several in one."""

from __future__ import annotations

import jax
from flax import linen as nn

from impl.config import ModelConfig
from impl.experts import attention_name, feed_forward_name, has_experts
from impl.linen.attention import Attention
from impl.linen.layers import Mlp, block_norm, dropout
from impl.linen.mla import LatentAttention
from impl.linen.moe import RoutedMoe, SharedMoe
from impl.serving.kv import Mode
from impl.stacks import inner_name

__all__ = ["BLOCK_CLASSES", "Cycle", "Gemma2Block", "Gemma3Block", "Gpt3Block", "LlamaBlock", "Olmo3Block"]


class LlamaBlock(nn.Module):
    """x + attention(norm(x)), then + mlp(norm(.)), or experts where its kind has any. [B, T, E] -> [B, T, E]."""

    config: ModelConfig
    mode: Mode
    deterministic: bool
    kind: str = "global"

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        config, epsilon = self.config, self.config.normalization_layer_epsilon
        normed = block_norm(config, "pre_self_attention_layer_norm", epsilon)(x)
        window, name = config.window(self.kind), attention_name(config)
        attention = ATTENTION_CLASSES[config.attention_type](config, self.mode, window, self.kind, name=name)
        x = x + attention(normed, positions, segment_ids)
        x = x + self._feed_forward()(block_norm(config, "post_self_attention_layer_norm", epsilon)(x))
        return dropout(config, "dropout")(x, deterministic=self.deterministic)

    def _feed_forward(self) -> nn.Module:
        config, name = self.config, feed_forward_name(self.config, self.kind)
        if not has_experts(config, self.kind):
            return Mlp(config, self.deterministic, name=name)
        if config.decoder_block == "deepseek":
            return SharedMoe(config, self.mode, self.deterministic, name=name)
        return RoutedMoe(config, self.mode, name=name)


class Gpt3Block(nn.Module):
    """x + attention(norm(x)), then + mlp(.), which norms its own input. [B, T, E] -> [B, T, E]."""

    config: ModelConfig
    mode: Mode
    deterministic: bool
    kind: str = "global"

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
    kind: str = "global"

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


class Gemma3Block(nn.Module):
    """One layer, local or global as its kind says, with optional norms after attention and MLP; epsilon as gemma2's."""

    config: ModelConfig
    mode: Mode
    deterministic: bool
    kind: str = "global"

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        config = self.config
        normed = block_norm(config, "pre_self_attention_norm", 1e-6)(x)
        attention = Attention(config, self.mode, config.window(self.kind), self.kind, name="self_attention")
        mixed = attention(normed, positions, segment_ids)
        if config.use_post_attn_norm:
            mixed = block_norm(config, "post_self_attention_norm", 1e-6)(mixed)
        x = x + mixed
        normed = block_norm(config, "pre_ffw_norm", 1e-6)(x)
        hidden = Mlp(config, self.deterministic, name="mlp")(normed)
        if config.use_post_ffw_norm:
            hidden = block_norm(config, "post_ffw_norm", 1e-6)(hidden)
        return dropout(config, "dropout")(x + hidden, deterministic=self.deterministic)


class Olmo3Block(nn.Module):
    """x + norm(attention(x)), then + norm(mlp(.)): what is added is normed, not what is read (arXiv 2501.00656)."""

    config: ModelConfig
    mode: Mode
    deterministic: bool
    kind: str = "global"

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        config, epsilon = self.config, self.config.normalization_layer_epsilon
        attention = Attention(config, self.mode, config.window(self.kind), self.kind, name=attention_name(config))
        mixed = attention(x, positions, segment_ids)
        x = x + block_norm(config, "post_self_attention_layer_norm", epsilon)(mixed)
        hidden = Mlp(config, self.deterministic, name="mlp")(x)
        x = x + block_norm(config, "post_mlp_layer_norm", epsilon)(hidden)
        return dropout(config, "dropout")(x, deterministic=self.deterministic)


class Cycle(nn.Module):
    """Layers of the given kinds one after the other: what a scanned stack of unlike layers repeats."""

    config: ModelConfig
    mode: Mode
    deterministic: bool
    kinds: tuple[str, ...]

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        block = BLOCK_CLASSES[self.config.decoder_block]
        for inner, kind in enumerate(self.kinds):
            layer = block(self.config, self.mode, self.deterministic, kind, name=inner_name(inner))
            x = layer(x, positions, segment_ids)
        return x


ATTENTION_CLASSES: dict[str, type[nn.Module]] = {"global": Attention, "mla": LatentAttention}
"""attention_type -> what a LlamaBlock attends with."""

BLOCK_CLASSES: dict[str, type[nn.Module]] = {
    "deepseek": LlamaBlock,
    "gemma2": Gemma2Block,
    "gemma3": Gemma3Block,
    "gpt3": Gpt3Block,
    "llama2": LlamaBlock,
    "gpt_oss": LlamaBlock,
    "mistral": LlamaBlock,
    "mixtral": LlamaBlock,
    "olmo3": Olmo3Block,
    "qwen3": LlamaBlock,
    "qwen3_moe": LlamaBlock,
}
