"""A partly migrated module, like MaxText's Linen path: NNX layers in a Linen module with init and apply of its own."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair

INPUT, WIDTH, OUTPUT = 5, 7, 3


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(INPUT, WIDTH, rngs=rngs)
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)

    def __call__(self, x):
        return self.norm(jnp.tanh(self.linear(x)))


class Partly(nn.Module):
    scale: float = 1.0

    def init(self, *args, scale=0.75, **kwargs):
        return nn.Module.init(self.clone(scale=scale), *args, **kwargs)

    def apply(self, *args, scale=0.75, **kwargs):
        return nn.Module.apply(self.clone(scale=scale), *args, **kwargs)

    @nn.compact
    def __call__(self, x):
        return nn.Dense(OUTPUT, name="head")(nnx.bridge.to_linen(Layer, name="layer")(x) * self.scale)


class Wholly(nnx.Module):
    def __init__(self, rngs):
        self.layer = Layer(rngs)
        self.head = nnx.Linear(WIDTH, OUTPUT, rngs=rngs)

    def __call__(self, x):
        return self.head(self.layer(x) * 0.75)


class Otherwise(Wholly):
    def __call__(self, x):
        return self.head(self.layer(x) * 0.7501)


def inputs(rng):
    x = rng.standard_normal((6, INPUT), dtype="float32")
    return {"x": x, "wanted": rng.standard_normal((6, OUTPUT), dtype="float32")}


def loss(output, batch):
    return {"square": jnp.square(output - batch["wanted"]).mean()}


def twin(kind, *, bridged=True):
    return module_pair(
        "bridging",
        linen=LinenModel(
            module=Partly(), train=lambda m, b: m(b["x"]), evaluate=lambda m, b: m(b["x"]), bridged=bridged
        ),
        nnx=NnxModel(create=kind, call=lambda m, b: m(b["x"])),
        task=Task(inputs=inputs, loss=loss, optimizer=partial(optax.adamw, 1e-2)),
    )
