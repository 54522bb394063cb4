"""Eleven equal layers, so that an order by text (10 before 2) is not the order by number."""

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair

DEPTH = 11


class LinenDeep(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(DEPTH):
            x = x + jnp.tanh(nn.Dense(6)(x))
        return x


class NnxDeep(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(6, 6, rngs=rngs) for _ in range(DEPTH)])

    def __call__(self, x):
        for layer in self.layers:
            x = x + jnp.tanh(layer(x))
        return x


class LinenScan(nn.Module):
    """The same layers under nn.scan, stacked on axis 0."""

    @nn.compact
    def __call__(self, x):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return x + jnp.tanh(nn.Dense(6)(x)), None

        scan = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=DEPTH)
        return scan(name="layers")(x, None)[0]


class NnxLayer(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(6, 6, rngs=rngs)

    def __call__(self, x):
        return x + jnp.tanh(self.linear(x))


class NnxScan(nnx.Module):
    """The same layers made by nnx.vmap and run by nnx.scan, stacked on axis 0."""

    def __init__(self, rngs):
        self.layers = nnx.vmap(NnxLayer)(rngs.split(DEPTH))

    def __call__(self, x):
        return nnx.scan(lambda layer, x: layer(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(self.layers, x)


def call(model, batch):
    return model(batch["x"])


TASK = Task(
    inputs=lambda rng: {"x": rng.standard_normal((4, 6), dtype="float32")},
    loss=lambda output, batch: {"square": jnp.mean(output**2)},
    optimizer=partial(optax.adamw, 1e-2),
)
CLIPPED = replace(TASK, optimizer=lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)))
LINEN = {kind: LinenModel(module=kind(), train=call, evaluate=call) for kind in (LinenDeep, LinenScan)}
NNX = {kind: NnxModel(create=kind, call=call) for kind in (NnxDeep, NnxScan)}


def pair(name, linen, nnx, task=TASK, **names):
    return module_pair(name, linen=LINEN[linen], nnx=NNX[nnx], task=task, **names)


LISTED = pair(
    "listed",
    LinenDeep,
    NnxDeep,
    renames={f"Dense_{layer}": f"layers/{layer}" for layer in range(DEPTH)},
)
# Linen flattens Dense_10 before Dense_2 and an nnx.List does not, so the global norm is summed in another order.
LISTED_CLIPPED = pair(
    "listed, clipped",
    LinenDeep,
    NnxDeep,
    CLIPPED,
    renames={f"Dense_{layer}": f"layers/{layer}" for layer in range(DEPTH)},
)
SCANNED = pair("scanned", LinenScan, NnxScan, CLIPPED, renames={"layers/Dense_0": "layers/linear"})
LINEN_STACKED = pair(
    "linen stacked",
    LinenScan,
    NnxDeep,
    renames={f"layers/{layer}/Dense_0": f"layers/{layer}" for layer in range(DEPTH)},
    stacks={"linen/layers": 0},
)
NNX_STACKED = pair(
    "nnx stacked",
    LinenDeep,
    NnxScan,
    renames={f"Dense_{layer}": f"layers/{layer}/linear" for layer in range(DEPTH)},
    stacks={"nnx/layers": 0},
)
