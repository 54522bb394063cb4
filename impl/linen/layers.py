"""Linen layers that every decoder block is made of: norms, dense projections, the MLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from impl import initializers
from impl.config import ModelConfig
from impl.linen import fp8
from impl.math.gates import gate
from impl.math.norm import apply_scale
from impl.params import input_projections
from impl.sharding.axes import beside, dot_general
from impl.sharding.memory import fetching, kept, on_device

__all__ = ["LayerNorm", "Mlp", "Named", "RMSNorm", "block_norm", "boxed", "dense", "dropout", "promotion"]


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis [..., E], computed in float32, result in `dtype`.

    Flax normalises; the scale is ours because Flax offers no offset and, in bfloat16, Linen and NNX multiply by it in
    different dtypes. The scale is cast to `dtype`, `offset` is added, then it multiplies. fetch: what is done to the
    scale before that.
    """

    dtype: jnp.dtype
    weight_dtype: jnp.dtype
    epsilon: float = 1e-6
    offset: float = 0.0
    fetch: Callable[[Any], Any] = kept

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        first = nn.initializers.ones if self.offset == 0.0 else nn.initializers.zeros
        scale = self.param("scale", nn.with_logical_partitioning(first, ("norm",)), x.shape[-1:], self.weight_dtype)
        normalised = nn.RMSNorm(epsilon=self.epsilon, dtype=self.dtype, use_scale=False, name="normalise")(x)
        return apply_scale(normalised, beside(self.fetch(scale), normalised), offset=self.offset, dtype=self.dtype)


class LayerNorm(nn.Module):
    """Mean and variance norm over the last axis [..., E] with scale offset and bias; the rest as in RMSNorm."""

    dtype: jnp.dtype
    weight_dtype: jnp.dtype
    epsilon: float = 1e-6
    offset: float = 1.0
    fetch: Callable[[Any], Any] = kept

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        axes, shape = ("norm",), x.shape[-1:]
        first = nn.initializers.ones if self.offset == 0.0 else nn.initializers.zeros
        scale = self.param("scale", nn.with_logical_partitioning(first, axes), shape, self.weight_dtype)
        bias = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, axes), shape, self.weight_dtype)
        normalised = nn.LayerNorm(
            epsilon=self.epsilon,
            dtype=self.dtype,
            use_scale=False,
            use_bias=False,
            use_fast_variance=False,
            name="normalise",
        )(x)
        scaled = apply_scale(normalised, beside(self.fetch(scale), normalised), offset=self.offset, dtype=self.dtype)
        return scaled + self.fetch(bias).astype(self.dtype)


def block_norm(config: ModelConfig, name: str, epsilon: float) -> nn.Module:
    """The norm that `config`'s decoder uses."""
    kind = LayerNorm if config.decoder_block == "gpt3" else RMSNorm
    return kind(
        dtype=jnp.dtype(config.dtype),
        weight_dtype=jnp.dtype(config.weight_dtype),
        epsilon=epsilon,
        offset=config.norm_offset,
        fetch=fetching(config),
        name=name,
    )


class Named(nn.LogicallyPartitioned):
    """A box of logical names that constrains nothing when it is opened.

    nn.DenseGeneral opens the box of a kernel that it has flattened to two axes; wherever a mesh is known, as inside
    explicit axes, Flax's own box would then hold those two to the names of all axes, and fail.
    """

    def unbox(self, *_ignored: Any, **_more: Any) -> Any:
        """What is in the box."""
        return self.value


def boxed(first: Callable[..., Any], axes: tuple[str | None, ...]) -> Callable[..., Named]:
    """`first`, an initializer, with its result in a box that names its axes."""
    return lambda *args: Named(first(*args), axes)


def dense(
    config: ModelConfig,
    name: str,
    features: tuple[int, ...],
    axes: tuple[str | None, ...],
    contracted: int,
    bias: bool,
) -> nn.DenseGeneral:
    """A projection of the last `contracted` axes onto `features`; `axes` are the kernel's logical names."""
    first = initializers.query_kernel(config) if name == "query" else initializers.kernel()
    return nn.DenseGeneral(
        features=features,
        axis=tuple(range(-contracted, 0)),
        use_bias=bias,
        dtype=jnp.dtype(config.dtype),
        param_dtype=jnp.dtype(config.weight_dtype),
        kernel_init=boxed(first, axes),
        bias_init=boxed(nn.initializers.zeros, axes[contracted:]),
        promote_dtype=promotion(config),
        dot_general_cls=fp8.dot(config, axes) or _product,
        name=name,
    )


def _product() -> Callable[..., jax.Array]:
    """The product of a projection that is not quantised."""
    return dot_general


def promotion(config: ModelConfig) -> Callable[..., Any]:
    """How a layer of Flax's brings its arguments and parameters to one dtype, and to the device before that."""
    return _fetched if config.parameter_memory_host_offload else promote_dtype


def _fetched(*leaves: Any, **options: Any) -> Any:
    return promote_dtype(*on_device(leaves), **options)


def dropout(config: ModelConfig, name: str) -> nn.Dropout:
    """Dropout with one mask for all positions of a row."""
    return nn.Dropout(rate=config.dropout_rate, broadcast_dims=(-2,), name=name)


class Mlp(nn.Module):
    """Gated (two activations) or plain (one) MLP [B, T, E] -> [B, T, E]; gpt3 norms its input here.

    width: F, the configuration's where it is 0.
    """

    config: ModelConfig
    deterministic: bool
    width: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config
        bias = config.mlp_bias or config.decoder_block == "gpt3"
        if config.decoder_block == "gpt3":
            x = block_norm(config, "mlp_layer_norm", config.normalization_layer_epsilon)(x)
        projections = tuple(
            dense(config, name, (self.width or config.mlp_dim,), ("embed", "mlp"), 1, bias)(x)
            for name in input_projections(config)
        )
        hidden = gate(config.mlp_activations, projections)
        hidden = dropout(config, "dropout")(hidden, deterministic=self.deterministic)
        return dense(config, "wo", (config.emb_dim,), ("mlp", "embed"), 1, bias)(hidden)
