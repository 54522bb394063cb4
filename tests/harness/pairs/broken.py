"""Broken twins of the MLP: each NNX version has one fault, and each must be caught. `TWINS`: fault -> pair."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair


class LinenMLP(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.gelu(nn.Dense(12)(x))
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.3, deterministic=not train)(nn.relu(nn.Dense(12)(x)))
        return nn.Dense(12)(x)


class Sound(nnx.Module):
    epsilon, rate, bias, width = 1e-5, 0.3, True, 7

    def __init__(self, rngs):
        self.first = nnx.Linear(self.width, 12, rngs=rngs)
        self.norm = nnx.BatchNorm(12, epsilon=self.epsilon, rngs=rngs)
        self.second = nnx.Linear(12, 12, use_bias=self.bias, rngs=rngs)
        self.dropout = nnx.Dropout(self.rate, rngs=rngs)
        self.third = nnx.Linear(12, 12, rngs=rngs)

    def act(self, x):
        return nnx.gelu(x)

    def normed(self, x):
        return self.norm(x)

    def __call__(self, x):
        x = self.normed(self.act(self.first(x)))
        return self.third(self.dropout(nnx.relu(self.second(x))))


class ExactGelu(Sound):
    def act(self, x):
        return nnx.gelu(x, approximate=False)


class Epsilon(Sound):
    epsilon = 1e-6


class Swapped(Sound):
    def __call__(self, x):
        x = self.normed(self.act(self.first(x)))
        return self.second(self.dropout(nnx.relu(self.third(x))))


class TrainInEval(Sound):
    def normed(self, x):
        return self.norm(x, use_running_average=False)


class StatsFrozen(Sound):
    def normed(self, x):
        if self.norm.use_running_average:
            return self.norm(x)
        mean, var = x.mean(axis=0), x.var(axis=0)
        return (x - mean) / jnp.sqrt(var + self.epsilon) * self.norm.scale[...] + self.norm.bias[...]


class NoBias(Sound):
    bias = False


class Transposed(Sound):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.first.kernel = nnx.Param(jnp.zeros((12, 7)))


class OtherName(Sound):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.first.weight = nnx.Param(jnp.zeros((7, 12)))
        del self.first.kernel


class IdleDropout(Sound):
    def __call__(self, x):
        x = self.normed(self.act(self.first(x)))
        return self.third(self.dropout(nnx.relu(self.second(x)), deterministic=True))


class DropsInEval(Sound):
    def __call__(self, x):
        x = self.normed(self.act(self.first(x)))
        return self.third(self.dropout(nnx.relu(self.second(x)), deterministic=False))


class OtherRate(Sound):
    rate = 0.5


class FrozenLayer(Sound):
    """The last layer's kernel is of a type that nnx.Optimizer(wrt=nnx.Param) passes over."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.third.kernel = nnx.Variable(jnp.zeros((12, 12)))


class OnePattern(Sound):
    """The same mask at every call: the key is a constant of the program."""

    def __call__(self, x):
        x = self.normed(self.act(self.first(x)))
        return self.third(self.dropout(nnx.relu(self.second(x)), rngs=nnx.Rngs(dropout=3)))


def inputs(rng):
    return {"x": rng.standard_normal((10, 7), dtype="float32"), "y": rng.standard_normal((10, 12), dtype="float32")}


def loss(output, batch):
    return {"square": jnp.mean((output - batch["y"]) ** 2)}


def zero_term(output, batch):
    return {**loss(output, batch), "auxiliary": 0.0 * jnp.mean(output)}


def twin(kind, term=loss):
    return module_pair(
        kind.__name__,
        linen=LinenModel(
            module=LinenMLP(), train=lambda m, b: m(b["x"], train=True), evaluate=lambda m, b: m(b["x"], train=False)
        ),
        nnx=NnxModel(create=kind, call=lambda m, b: m(b["x"])),
        task=Task(inputs=inputs, loss=term, optimizer=partial(optax.adam, 1e-2)),
        renames={
            "Dense_0": "first",
            "BatchNorm_0": "norm",
            "Dense_1": "second",
            "Dense_2": "third",
            "Dropout_0": "dropout",
        },
    )


SOUND = twin(Sound)
ZERO_TERM = twin(Sound, zero_term)
