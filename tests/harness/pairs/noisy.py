"""A variational autoencoder: noise of its own stream, in eval mode too; and a constructor that draws a weight."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair

WIDTH, LATENT = 7, 4


class LinenVae(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + self.param("shift", nn.initializers.normal(), (WIDTH,))
        mean, spread = nn.Dense(LATENT, name="mean")(x), nn.Dense(LATENT, name="spread")(x)
        z = mean + jnp.exp(spread / 2) * jax.random.normal(self.make_rng("noise"), mean.shape)
        return {"y": nn.Dense(WIDTH, name="decode")(z), "mean": mean, "spread": spread}


class NnxVae(nnx.Module):
    def __init__(self, rngs):
        self.shift = nnx.Param(jax.random.normal(rngs.params(), (WIDTH,)))
        self.mean = nnx.Linear(WIDTH, LATENT, rngs=rngs)
        self.spread = nnx.Linear(WIDTH, LATENT, rngs=rngs)
        self.decode = nnx.Linear(LATENT, WIDTH, rngs=rngs)
        self.rngs = rngs

    def noise(self, shape):
        return jax.random.normal(self.rngs.noise(), shape)

    def __call__(self, x):
        x = x + self.shift[...]
        mean, spread = self.mean(x), self.spread(x)
        z = mean + jnp.exp(spread / 2) * self.noise(mean.shape)
        return {"y": self.decode(z), "mean": mean, "spread": spread}


class Frozen(NnxVae):
    """Draws with one key in every step."""

    def noise(self, shape):
        return jax.random.normal(jax.random.key(5), shape)


class Halved(NnxVae):
    def noise(self, shape):
        return super().noise(shape) / 2


class Quiet(NnxVae):
    def noise(self, shape):
        return jnp.zeros(shape)


def inputs(rng):
    return {"x": rng.standard_normal((6, WIDTH), dtype="float32")}


def loss(output, batch):
    divergence = output["mean"] ** 2 + jnp.exp(output["spread"]) - output["spread"] - 1
    return {"square": jnp.square(output["y"] - batch["x"]).mean(), "divergence": divergence.mean() / 2}


def twin(kind):
    return module_pair(
        f"noisy_{kind.__name__}",
        linen=LinenModel(module=LinenVae(), train=lambda m, b: m(b["x"]), evaluate=lambda m, b: m(b["x"])),
        nnx=NnxModel(create=kind, call=lambda m, b: m(b["x"])),
        task=Task(inputs=inputs, loss=loss, optimizer=partial(optax.adam, 1e-2), rngs=("noise",)),
    )
