"""Decoder blocks in NNX: llama2's, mistral's and qwen3's, gpt3's, gemma2's, gemma3's, olmo3's; several in one."""

from __future__ import annotations

import jax
from flax import nnx

from impl.config import ModelConfig
from impl.experts import attention_name, feed_forward_name, has_experts
from impl.nnx.attention import Attention
from impl.nnx.layers import Mlp, block_norm, dropout
from impl.nnx.mla import LatentAttention
from impl.nnx.moe import RoutedMoe, SharedMoe
from impl.serving.kv import Mode
from impl.stacks import inner_name

__all__ = ["BLOCK_CLASSES", "Cycle", "Gemma2Block", "Gemma3Block", "Gpt3Block", "LlamaBlock", "Olmo3Block"]


class LlamaBlock(nnx.Module):
    """x + attention(norm(x)), then + mlp(norm(.)), or experts where its kind has any. [B, T, E] -> [B, T, E]."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, slots: int = 0, kind: str = "global"):
        epsilon, window = config.normalization_layer_epsilon, config.window(kind)
        self.names = attention_name(config), feed_forward_name(config, kind)
        self.sparse = has_experts(config, kind)
        self.pre_self_attention_layer_norm = block_norm(config, epsilon, rngs)
        attention = ATTENTION_CLASSES[config.attention_type]
        setattr(self, self.names[0], attention(config, rngs=rngs, window=window, kind=kind, slots=slots))
        self.post_self_attention_layer_norm = block_norm(config, epsilon, rngs)
        mixture = SharedMoe if config.decoder_block == "deepseek" else RoutedMoe
        setattr(self, self.names[1], (mixture if self.sparse else Mlp)(config, rngs=rngs))
        self.dropout = dropout(config, rngs)

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        attention, feed_forward = (getattr(self, name) for name in self.names)
        x = x + attention(self.pre_self_attention_layer_norm(x), positions, segment_ids, mode)
        normed = self.post_self_attention_layer_norm(x)
        return self.dropout(x + (feed_forward(normed, mode) if self.sparse else feed_forward(normed)))


class Gpt3Block(nnx.Module):
    """x + attention(norm(x)), then + mlp(.), which norms its own input. [B, T, E] -> [B, T, E]."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, slots: int = 0, kind: str = "global"):
        self.pre_self_attention_norm = block_norm(config, config.normalization_layer_epsilon, rngs)
        self.self_attention = Attention(config, rngs=rngs, slots=slots)
        self.mlp = Mlp(config, rngs=rngs)
        self.dropout = dropout(config, rngs)

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        x = x + self.self_attention(self.pre_self_attention_norm(x), positions, segment_ids, mode)
        return self.dropout(x + self.mlp(x))


class Gemma2Block(nnx.Module):
    """A local (sliding-window) sublayer, then a global one, each with optional norms after attention and MLP.

    The block norms use epsilon 1e-6 whatever the configuration says, as MaxText does; only the final norm follows it.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, slots: int = 0, kind: str = "global"):
        self.config = config
        for part, window in (("local", config.sliding_window_size), ("global", -1)):
            setattr(self, f"pre_self_attention_norm_{part}", block_norm(config, 1e-6, rngs))
            setattr(self, f"self_attention_{part}", Attention(config, rngs=rngs, window=window, slots=slots))
            if config.use_post_attn_norm:
                setattr(self, f"post_self_attention_norm_{part}", block_norm(config, 1e-6, rngs))
            setattr(self, f"pre_ffw_norm_{part}", block_norm(config, 1e-6, rngs))
            setattr(self, f"mlp_{part}", Mlp(config, rngs=rngs))
            if config.use_post_ffw_norm:
                setattr(self, f"post_ffw_norm_{part}", block_norm(config, 1e-6, rngs))
            setattr(self, f"dropout_{part}", dropout(config, rngs))

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        for part in ("local", "global"):
            normed = getattr(self, f"pre_self_attention_norm_{part}")(x)
            mixed = getattr(self, f"self_attention_{part}")(normed, positions, segment_ids, mode)
            if self.config.use_post_attn_norm:
                mixed = getattr(self, f"post_self_attention_norm_{part}")(mixed)
            x = x + mixed
            hidden = getattr(self, f"mlp_{part}")(getattr(self, f"pre_ffw_norm_{part}")(x))
            if self.config.use_post_ffw_norm:
                hidden = getattr(self, f"post_ffw_norm_{part}")(hidden)
            x = getattr(self, f"dropout_{part}")(x + hidden)
        return x


class Gemma3Block(nnx.Module):
    """One layer, local or global as its kind says, with optional norms after attention and MLP; epsilon as gemma2's."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, slots: int = 0, kind: str = "global"):
        self.pre_self_attention_norm = block_norm(config, 1e-6, rngs)
        self.self_attention = Attention(config, rngs=rngs, window=config.window(kind), kind=kind, slots=slots)
        post_attention, post_mlp = config.use_post_attn_norm, config.use_post_ffw_norm
        self.post_self_attention_norm = block_norm(config, 1e-6, rngs) if post_attention else None
        self.pre_ffw_norm = block_norm(config, 1e-6, rngs)
        self.mlp = Mlp(config, rngs=rngs)
        self.post_ffw_norm = block_norm(config, 1e-6, rngs) if post_mlp else None
        self.dropout = dropout(config, rngs)

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        mixed = self.self_attention(self.pre_self_attention_norm(x), positions, segment_ids, mode)
        x = x + (mixed if self.post_self_attention_norm is None else self.post_self_attention_norm(mixed))
        hidden = self.mlp(self.pre_ffw_norm(x))
        return self.dropout(x + (hidden if self.post_ffw_norm is None else self.post_ffw_norm(hidden)))


class Olmo3Block(nnx.Module):
    """x + norm(attention(x)), then + norm(mlp(.)): what is added is normed, not what is read (arXiv 2501.00656)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, slots: int = 0, kind: str = "global"):
        epsilon = config.normalization_layer_epsilon
        self.attention = Attention(config, rngs=rngs, window=config.window(kind), kind=kind, slots=slots)
        self.post_self_attention_layer_norm = block_norm(config, epsilon, rngs)
        self.mlp = Mlp(config, rngs=rngs)
        self.post_mlp_layer_norm = block_norm(config, epsilon, rngs)
        self.dropout = dropout(config, rngs)

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        x = x + self.post_self_attention_layer_norm(self.attention(x, positions, segment_ids, mode))
        return self.dropout(x + self.post_mlp_layer_norm(self.mlp(x)))


class Cycle(nnx.Module):
    """Layers of the given kinds one after the other: what a scanned stack of unlike layers repeats."""

    def __init__(self, config: ModelConfig, kinds: tuple[str, ...], *, rngs: nnx.Rngs, slots: int = 0):
        self.names = tuple(inner_name(inner) for inner in range(len(kinds)))
        for name, kind in zip(self.names, kinds, strict=True):
            setattr(self, name, BLOCK_CLASSES[config.decoder_block](config, rngs=rngs, slots=slots, kind=kind))

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: Mode) -> jax.Array:
        for name in self.names:
            x = getattr(self, name)(x, positions, segment_ids, mode)
        return x


ATTENTION_CLASSES: dict[str, type[nnx.Module]] = {"global": Attention, "mla": LatentAttention}
"""attention_type -> what a LlamaBlock attends with."""

BLOCK_CLASSES: dict[str, type[nnx.Module]] = {
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
