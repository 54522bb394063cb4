"""Mixtures of experts in NNX: the router's gate, the experts' kernels, shared experts. Maths: `impl.math.moe`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from impl import initializers
from impl.config import ModelConfig
from impl.experts import ROUTED, SHARED, auxiliary, combined, gate_inputs, router, scaled
from impl.math.moe import Experts, route
from impl.nnx.layers import Mlp, partitioned
from impl.params import input_projections
from impl.serving.kv import Mode

__all__ = ["Gate", "RoutedMoe", "SharedMoe"]

Bias = tuple[jax.Array, ...]


class Gate(nnx.Module):
    """Tokens [B, T, E] -> the router's logits [B, T, N] and its bias [N], or none, which is not added yet."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        stored = jnp.dtype(config.weight_dtype)
        embed = "embed_moe" if config.decoder_block == "deepseek" else "embed"
        kernel = initializers.kernel()(rngs.params(), (config.emb_dim, config.num_experts), stored)
        self.kernel = nnx.Param(kernel, **partitioned((embed, None)))
        zeros = jnp.zeros((config.num_experts,), stored)
        self.bias = nnx.Param(zeros, **partitioned((None,))) if config.routed_bias else None

    def __call__(self, x: jax.Array) -> tuple[jax.Array, Bias]:
        logits = x @ self.kernel[...].astype(x.dtype)
        return logits, () if self.bias is None else (self.bias[...].astype(x.dtype),)


class RoutedMoe(nnx.Module):
    """Each token through the experts that its router chooses: [B, T, E] -> [B, T, E].

    In training it sows, as nnx.Intermediate, what `impl.experts.auxiliary` tells.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        n, e, m = config.num_experts, config.emb_dim, config.moe_mlp_dim
        self.config, self.names = config, input_projections(config)
        self.gate = Gate(config, rngs=rngs)
        for name in self.names:
            setattr(self, name, self._kernel((n, e, m), ("exp", "embed_moe", "mlp_moe"), rngs))
        self.wo = self._kernel((n, m, e), ("exp", "mlp_moe", "embed_moe"), rngs)
        if config.mlp_bias:
            for name in self.names:
                setattr(self, f"{name}_bias", self._filled(0.0, (n, m), ("exp", "activation_mlp")))
            self.wo_bias = self._filled(0.0, (n, e), ("exp", "activation_embed"))
        if config.per_expert_scale:
            self.per_expert_scale = self._filled(1.0, (n,), ("exp",))

    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        config = self.config
        logits, biases = gate_inputs(config, *self.gate(x))
        routing, experts = route(logits, biases, router(config)), self._experts(jnp.dtype(config.dtype))
        if mode == "train":
            for name, value in auxiliary(config, logits, routing).items():
                self.sow(nnx.Intermediate, name, value)
        if config.per_expert_scale:
            routing, experts = scaled(config, routing, experts, self.per_expert_scale[...])
        return combined(config, x, routing, experts)

    def _experts(self, dtype: jnp.dtype) -> Experts:
        inputs = tuple(getattr(self, name)[...].astype(dtype) for name in self.names)
        output = self.wo[...].astype(dtype)
        if not self.config.mlp_bias:
            return Experts(inputs, output)
        biases = tuple(getattr(self, f"{name}_bias")[...].astype(dtype) for name in self.names)
        return Experts(inputs, output, biases, (self.wo_bias[...].astype(dtype),))

    def _kernel(self, shape: tuple[int, ...], axes: tuple[str, ...], rngs: nnx.Rngs) -> nnx.Param:
        drawn = initializers.experts()(rngs.params(), shape, jnp.dtype(self.config.weight_dtype))
        return nnx.Param(drawn, **partitioned(axes))

    def _filled(self, value: float, shape: tuple[int, ...], axes: tuple[str, ...]) -> nnx.Param:
        return nnx.Param(jnp.full(shape, value, jnp.dtype(self.config.weight_dtype)), **partitioned(axes))


class SharedMoe(nnx.Module):
    """Routed experts and, for every token, an MLP as wide as all shared experts together. [B, T, E] -> [B, T, E]."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        setattr(self, ROUTED, RoutedMoe(config, rngs=rngs))
        width = config.shared_experts * config.moe_mlp_dim
        setattr(self, SHARED, Mlp(config, rngs=rngs, width=width) if width else None)

    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        routed, shared = getattr(self, ROUTED)(x, mode), getattr(self, SHARED)
        return routed if shared is None else routed + shared(x)
