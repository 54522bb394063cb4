"""Attention as each Flax has it: NNX's runs on jax.nn.dot_product_attention, whose softmax is always in float32."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair

WIDTH, HEADS, LENGTH = 24, 4, 9


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        attend = nn.MultiHeadDotProductAttention(num_heads=HEADS, deterministic=not train)
        x = x + nn.Dropout(0.2, deterministic=not train)(attend(nn.LayerNorm()(x), mask=nn.make_causal_mask(x[..., 0])))
        x = x.astype(jnp.float32) / (1e-6 + jnp.abs(x).max())
        return x + nn.Dropout(0.2, deterministic=not train)(nn.Dense(WIDTH)(x))


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(num_heads=HEADS, in_features=WIDTH, decode=False, rngs=rngs)
        self.dense = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.first = nnx.Dropout(0.2, rngs=rngs)
        self.second = nnx.Dropout(0.2, rngs=rngs)

    def scaled(self, x):
        return x.astype(jnp.float32) / (1e-6 + jnp.abs(x).max())

    def __call__(self, x):
        x = self.scaled(x + self.first(self.attend(self.norm(x), mask=nnx.make_causal_mask(x[..., 0]))))
        return x + self.second(self.dense(x))


class OneDropout(NnxBlock):
    """The second dropout is forgotten; the rates are the same set."""

    def __call__(self, x):
        x = self.scaled(x + self.first(self.attend(self.norm(x), mask=nnx.make_causal_mask(x[..., 0]))))
        return x + self.dense(x)


class Shifted(NnxBlock):
    """A slip of one part in a million: less than what the two kinds of attention differ by in places."""

    def scaled(self, x):
        return x.astype(jnp.float32) / (2e-6 + jnp.abs(x).max())


class Narrow(NnxBlock):
    """Computes one step in bfloat16, which no rounding of the other side does."""

    def scaled(self, x):
        return super().scaled(x.astype(jnp.bfloat16).astype(jnp.float32))


def inputs(rng):
    x = rng.standard_normal((4, LENGTH, WIDTH), dtype="float32")
    return {"x": x, "wanted": rng.standard_normal(x.shape, dtype="float32")}


def loss(output, batch):
    return {"square": jax.numpy.square(output - batch["wanted"]).mean()}


def twin(kind):
    return module_pair(
        f"encoder_{kind.__name__}",
        linen=LinenModel(
            module=LinenBlock(), train=lambda m, b: m(b["x"], train=True), evaluate=lambda m, b: m(b["x"], train=False)
        ),
        nnx=NnxModel(create=kind, call=lambda m, b: m(b["x"])),
        task=Task(inputs=inputs, loss=loss, optimizer=partial(optax.adamw, 1e-2)),
        renames={"LayerNorm_0": "norm", "MultiHeadDotProductAttention_0": "attend", "Dense_0": "dense"},
    )
