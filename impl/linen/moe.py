"""Mixtures of experts in Linen: the router's gate, the experts' kernels, shared experts. Maths: `impl.math.moe`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from impl import initializers
from impl.config import ModelConfig
from impl.experts import ROUTED, SHARED, auxiliary, combined, gate_inputs, router, scaled
from impl.linen.layers import Mlp
from impl.math.moe import Experts, route
from impl.params import input_projections
from impl.serving.kv import Mode

__all__ = ["Gate", "RoutedMoe", "SharedMoe"]

Bias = tuple[jax.Array, ...]


class Gate(nn.Module):
    """Tokens [B, T, E] -> the router's logits [B, T, N] and its bias [N], or none, which is not added yet."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, Bias]:
        config, stored = self.config, jnp.dtype(self.config.weight_dtype)
        embed = "embed_moe" if config.decoder_block == "deepseek" else "embed"
        first = nn.with_logical_partitioning(initializers.kernel(), (embed, None))
        kernel = self.param("kernel", first, (config.emb_dim, config.num_experts), stored)
        logits = x @ kernel.astype(x.dtype)
        if not config.routed_bias:
            return logits, ()
        first = nn.with_logical_partitioning(nn.initializers.zeros, (None,))
        return logits, (self.param("bias", first, (config.num_experts,), stored).astype(x.dtype),)


class RoutedMoe(nn.Module):
    """Each token through the experts that its router chooses: [B, T, E] -> [B, T, E].

    In training it sows, into "intermediates", what `impl.experts.auxiliary` tells.
    """

    config: ModelConfig
    mode: Mode = "train"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config
        logits, biases = gate_inputs(config, *Gate(config, name="gate")(x))
        routing, experts = route(logits, biases, router(config)), self._experts(jnp.dtype(config.dtype))
        if self.mode == "train":
            for name, value in auxiliary(config, logits, routing).items():
                self.sow("intermediates", name, value)
        if config.per_expert_scale:
            first = nn.with_logical_partitioning(nn.initializers.ones, ("exp",))
            scale = self.param("per_expert_scale", first, (config.num_experts,), jnp.dtype(config.weight_dtype))
            routing, experts = scaled(config, routing, experts, scale)
        return combined(config, x, routing, experts)

    def _experts(self, dtype: jnp.dtype) -> Experts:
        n, e, m = self.config.num_experts, self.config.emb_dim, self.config.moe_mlp_dim
        names = input_projections(self.config)
        inputs = [self._leaf(name, (n, e, m), ("exp", "embed_moe", "mlp_moe")) for name in names]
        output = self._leaf("wo", (n, m, e), ("exp", "mlp_moe", "embed_moe"))
        input_biases, output_bias = [], []
        if self.config.mlp_bias:
            input_biases = [self._leaf(f"{name}_bias", (n, m), ("exp", "activation_mlp")) for name in names]
            output_bias = [self._leaf("wo_bias", (n, e), ("exp", "activation_embed"))]
        kinds = (inputs, input_biases, output_bias)
        inputs_, biases_, bias_ = (tuple(leaf.astype(dtype) for leaf in kind) for kind in kinds)
        return Experts(inputs_, output.astype(dtype), biases_, bias_)

    def _leaf(self, name: str, shape: tuple[int, ...], axes: tuple[str, ...]) -> jax.Array:
        first = nn.initializers.zeros if len(shape) == 2 else initializers.experts()
        return self.param(name, nn.with_logical_partitioning(first, axes), shape, jnp.dtype(self.config.weight_dtype))


class SharedMoe(nn.Module):
    """Routed experts and, for every token, an MLP as wide as all shared experts together. [B, T, E] -> [B, T, E]."""

    config: ModelConfig
    mode: Mode
    deterministic: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config
        routed = RoutedMoe(config, self.mode, name=ROUTED)(x)
        if not config.shared_experts:
            return routed
        return routed + Mlp(config, self.deterministic, config.shared_experts * config.moe_mlp_dim, name=SHARED)(x)
