"""NNX layers that every decoder block is made of: norms, dense projections, the MLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from impl import initializers
from impl.config import ModelConfig
from impl.math.gates import gate
from impl.math.norm import apply_scale
from impl.nnx import fp8
from impl.params import input_projections
from impl.sharding.axes import beside, dot_general
from impl.sharding.memory import fetching, kept, on_device

__all__ = ["LayerNorm", "Mlp", "RMSNorm", "block_norm", "dense", "dropout", "partitioned", "promotion"]


def partitioned(axes: tuple[str | None, ...]) -> dict[str, Any]:
    """Variable metadata for logical axis names. Arrays are placed by whoever jits, not when a Variable is created."""
    return {"out_sharding": axes, "eager_sharding": False}


def _first_scale(features: int, offset: float, dtype: jnp.dtype) -> nnx.Param:
    return nnx.Param(jnp.full((features,), 1.0 - offset, dtype), **partitioned(("norm",)))


class RMSNorm(nnx.Module):
    """Root-mean-square norm over the last axis [..., E], computed in float32, result in `dtype`.

    Flax normalises; the scale is ours because Flax offers no offset and, in bfloat16, Linen and NNX multiply by it in
    different dtypes. The scale is cast to `dtype`, `offset` is added, then it multiplies. fetch: what is done to the
    scale before that.
    """

    def __init__(
        self,
        features: int,
        *,
        dtype: jnp.dtype,
        weight_dtype: jnp.dtype,
        rngs: nnx.Rngs,
        epsilon: float = 1e-6,
        offset: float = 0.0,
    ):
        self.dtype, self.offset = dtype, offset
        self.scale = _first_scale(features, offset, weight_dtype)
        self.fetch: Callable[[Any], Any] = kept
        self.normalise = nnx.RMSNorm(features, epsilon=epsilon, dtype=dtype, use_scale=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        normalised = self.normalise(x)
        scale = beside(self.fetch(self.scale[...]), normalised)
        return apply_scale(normalised, scale, offset=self.offset, dtype=self.dtype)


class LayerNorm(nnx.Module):
    """Mean and variance norm over the last axis [..., E] with scale offset and bias; the rest as in RMSNorm."""

    def __init__(
        self,
        features: int,
        *,
        dtype: jnp.dtype,
        weight_dtype: jnp.dtype,
        rngs: nnx.Rngs,
        epsilon: float = 1e-6,
        offset: float = 1.0,
    ):
        self.dtype, self.offset = dtype, offset
        self.scale = _first_scale(features, offset, weight_dtype)
        self.bias = nnx.Param(jnp.zeros((features,), weight_dtype), **partitioned(("norm",)))
        self.fetch: Callable[[Any], Any] = kept
        self.normalise = nnx.LayerNorm(
            features,
            epsilon=epsilon,
            dtype=dtype,
            use_scale=False,
            use_bias=False,
            use_fast_variance=False,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        normalised = self.normalise(x)
        scale = beside(self.fetch(self.scale[...]), normalised)
        scaled = apply_scale(normalised, scale, offset=self.offset, dtype=self.dtype)
        return scaled + self.fetch(self.bias[...]).astype(self.dtype)


def block_norm(config: ModelConfig, epsilon: float, rngs: nnx.Rngs) -> nnx.Module:
    """The norm that `config`'s decoder uses."""
    kind = LayerNorm if config.decoder_block == "gpt3" else RMSNorm
    norm = kind(
        config.emb_dim,
        dtype=jnp.dtype(config.dtype),
        weight_dtype=jnp.dtype(config.weight_dtype),
        epsilon=epsilon,
        offset=config.norm_offset,
        rngs=rngs,
    )
    norm.fetch = fetching(config)
    return norm


def dense(
    config: ModelConfig,
    inputs: tuple[int, ...],
    features: tuple[int, ...],
    axes: tuple[str | None, ...],
    bias: bool,
    rngs: nnx.Rngs,
) -> nnx.LinearGeneral:
    """A projection of the last axes, of sizes `inputs`, onto `features`; `axes` are the kernel's logical names."""
    first = initializers.query_kernel(config) if "q_heads" in axes else initializers.kernel()
    return nnx.LinearGeneral(
        inputs,
        features,
        axis=tuple(range(-len(inputs), 0)),
        use_bias=bias,
        dtype=jnp.dtype(config.dtype),
        param_dtype=jnp.dtype(config.weight_dtype),
        kernel_init=first,
        kernel_metadata=partitioned(axes),
        bias_metadata=partitioned(axes[len(inputs) :]),
        promote_dtype=promotion(config),
        dot_general=fp8.dot(config, axes) or dot_general,
        rngs=rngs,
    )


def promotion(config: ModelConfig) -> Callable[..., Any]:
    """How a layer of Flax's brings its arguments and parameters to one dtype, and to the device before that."""
    return _fetched if config.parameter_memory_host_offload else promote_dtype


def _fetched(leaves: Any, **options: Any) -> Any:
    return promote_dtype(on_device(leaves), **options)


def dropout(config: ModelConfig, rngs: nnx.Rngs) -> nnx.Dropout:
    """Dropout with one mask for all positions of a row. `Module.train()` and `eval()` switch it.

    A rate of 0 draws nothing, and takes no stream of keys: every step would carry its state in and out.
    """
    streams = rngs if config.dropout_rate else None
    return nnx.Dropout(rate=config.dropout_rate, broadcast_dims=(-2,), rngs=streams)


class Mlp(nnx.Module):
    """Gated (two activations) or plain (one) MLP [B, T, E] -> [B, T, E]; gpt3 norms its input here.

    width: F, the configuration's where it is 0.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, width: int = 0):
        self.config = config
        bias = config.mlp_bias or config.decoder_block == "gpt3"
        wide, narrow = (width or config.mlp_dim,), (config.emb_dim,)
        if config.decoder_block == "gpt3":
            self.mlp_layer_norm = block_norm(config, config.normalization_layer_epsilon, rngs)
        for name in input_projections(config):
            setattr(self, name, dense(config, narrow, wide, ("embed", "mlp"), bias, rngs))
        self.dropout = dropout(config, rngs)
        self.wo = dense(config, wide, narrow, ("mlp", "embed"), bias, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config
        if config.decoder_block == "gpt3":
            x = self.mlp_layer_norm(x)
        projections = tuple(getattr(self, name)(x) for name in input_projections(config))
        return self.wo(self.dropout(gate(config.mlp_activations, projections)))
