"""Flax's own LSTM on both sides, whose gates Linen keeps apart and NNX in one kernel; and a head stored transposed."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair

INPUT, HIDDEN, OUTPUT = 6, 5, 3
CELL = "params/OptimizedLSTMCell_0"


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(OUTPUT, name="head")(nn.RNN(nn.OptimizedLSTMCell(HIDDEN))(x))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(INPUT, HIDDEN, rngs=rngs), rngs=rngs)
        self.head = nnx.Param(jnp.zeros((OUTPUT, HIDDEN)))
        self.bias = nnx.Param(jnp.zeros(OUTPUT))

    def __call__(self, x):
        return self.lstm(x) @ self.head[...].T + self.bias[...]


def rearranged(linen, gates="ifgo"):
    def fused(gate, leaf):
        return np.concatenate([linen[f"{CELL}/{gate}{each}/{leaf}"] for each in gates], axis=-1)

    return {
        "params/lstm/cell/dense_i/kernel": fused("i", "kernel"),
        "params/lstm/cell/dense_h/kernel": fused("h", "kernel"),
        "params/lstm/cell/dense_h/bias": fused("h", "bias"),
        "params/head": linen["params/head/kernel"].T,
    }


def inputs(rng):
    x = rng.standard_normal((4, 7, INPUT), dtype="float32")
    return {"x": x, "wanted": rng.standard_normal((4, 7, OUTPUT), dtype="float32")}


def loss(output, batch):
    return {"square": jnp.square(output - batch["wanted"]).mean()}


def pair(name, function):
    return module_pair(
        name,
        linen=LinenModel(module=LinenNet(), train=lambda m, b: m(b["x"]), evaluate=lambda m, b: m(b["x"])),
        nnx=NnxModel(create=NnxNet, call=lambda m, b: m(b["x"]), rearranged=function),
        task=Task(inputs=inputs, loss=loss, optimizer=partial(optax.adam, 1e-2)),
        renames={"head/bias": "bias"},
    )


SOUND = pair("recurrent", rearranged)
SWAPPED = pair("recurrent_swapped", partial(rearranged, gates="figo"))
