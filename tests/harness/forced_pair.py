"""A net of layers in Linen and in NNX, scanned and rematerialised, whose NNX side can be given mistakes."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from harness.pair import Pair, Side
from harness.recorder import lower
from tests.harness.fabricate import generic

WIDTH, HIDDEN, ROWS, LAYERS = 5, 7, 3, 3


class How(NamedTuple):
    """What the NNX side does that the Linen one does not. wrong: (module, mistake); layers: scanned or written out."""

    wrong: tuple[tuple[str, str], ...] = ()
    scanned: bool = True


def mistake(how, module):
    return dict(how.wrong).get(module, "")


class LinenPart(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return jnp.tanh(x @ self.param("kernel", nn.initializers.normal(), (x.shape[-1], self.width)))


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = LinenPart(HIDDEN, name="up")(x)
        return x + LinenPart(WIDTH, name="down")(y * 1.25), None


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        block = nn.remat(LinenBlock, prevent_cse=False)
        scan = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS)
        x, _ = scan(name="layers")(LinenPart(WIDTH, name="embed")(x), None)
        return LinenPart(2, name="head")(x)


@jax.custom_vjp
def slipped(x):
    return jnp.tanh(x)


slipped.defvjp(lambda x: (jnp.tanh(x), x), lambda x, c: (1.5 * c * (1 - jnp.tanh(x) ** 2),))


@jax.custom_vjp
def lossy(x, kernel):
    return x @ kernel


lossy.defvjp(lambda x, k: (x @ k, (x, k)), lambda r, c: (c @ r[1].T, 0.5 * r[0].T @ c))


class NnxPart(nnx.Module):
    def __init__(self, rows, width, wrong):
        self.kernel, self.wrong = nnx.Param(jnp.zeros((rows, width))), wrong

    def __call__(self, x):
        y = lossy(x, self.kernel[...]) if self.wrong == "kernel" else x @ self.kernel[...]
        return {"forward": jnp.sin, "backward": slipped}.get(self.wrong, jnp.tanh)(y)


class NnxBlock(nnx.Module):
    def __init__(self, how):
        self.up = NnxPart(WIDTH, HIDDEN, mistake(how, "up"))
        self.down = NnxPart(HIDDEN, WIDTH, mistake(how, "down"))
        self.wrong = mistake(how, "layers")

    def __call__(self, x):
        y = self.up(x)
        y = y * (1.5 if self.wrong == "between" else 1.25)
        return x + self.down(y) * (0.5 if self.wrong == "forward" else 1.0)


class NnxNet(nnx.Module):
    def __init__(self, how):
        self.embed = NnxPart(WIDTH, WIDTH, mistake(how, "embed"))
        self.layers = nnx.List([NnxBlock(how) for _ in range(1 if how.scanned else LAYERS)])
        self.head = NnxPart(WIDTH, 2, mistake(how, "head"))

    def __call__(self, x):
        x = self.embed(x)
        if len(self.layers) > 1:
            for layer in self.layers:
                x = layer(x)
            return self.head(x)
        graphdef, stack = nnx.split(self.layers[0])
        body = jax.checkpoint(lambda x, layer: (nnx.merge(graphdef, layer, copy=True)(x), None), prevent_cse=False)
        return self.head(jax.lax.scan(body, x, stack)[0])


PARTS = {"up": (WIDTH, HIDDEN), "down": (HIDDEN, WIDTH)}

SHAPES = {
    "embed": (WIDTH, WIDTH),
    **{f"layers/{i}/{part}": shape for i in range(LAYERS) for part, shape in PARTS.items()},
    "head": (WIDTH, 2),
}
NAMES = [f"{name}/kernel" for name in SHAPES]


def stacked(weights, part):
    return jnp.stack([weights[f"layers/{i}/{part}/kernel"] for i in range(LAYERS)])


def linen_apply(weights, x):
    stack = {part: {"kernel": stacked(weights, part)} for part in PARTS}
    params = {name: {"kernel": weights[f"{name}/kernel"]} for name in ("embed", "head")}
    return LinenNet().apply({"params": {**params, "layers": stack}}, x)


def nnx_apply(how, weights, x):
    net = NnxNet(how)
    for name in ("embed", "head"):
        getattr(net, name).kernel[...] = weights[f"{name}/kernel"]
    for part in PARTS:
        stack = stacked(weights, part)
        for i, layer in enumerate(net.layers):
            getattr(layer, part).kernel.set_value(stack if how.scanned else stack[i])
    return net(x)


def loss_of(apply, scale, weights, x):
    return scale * jnp.mean(apply(weights, x) ** 2)


def grad(apply, scale, case, _run):
    weights = {name: jnp.asarray(value) for name, value in case.weights.items()}
    value, grads = jax.jit(jax.value_and_grad(partial(loss_of, apply, scale)))(weights, case.inputs["x"])
    return {"loss": {"square": value}, "gradients": {name: grads[name] for name in NAMES}}


def forward(apply, _scale, case, _run):
    return {"outputs": {"y": jax.jit(apply)(dict(case.weights), case.inputs["x"])}}


def side(name, apply, scale=1.0):
    programs = {program.__name__: partial(program, apply, scale) for program in (grad, forward)}
    shapes = {f"{at}/kernel": jax.ShapeDtypeStruct(shape, jnp.float32) for at, shape in SHAPES.items()}
    arguments = shapes, jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
    graphs = {"forward": {"call": lambda: lower(lambda *given: apply(*given), arguments)}}
    return Side(name=name, frameworks=frozenset({name}), programs=programs, graphs=lambda settings: graphs)


def drawn(settings, seed):
    weights = {f"{name}/kernel": generic(shape, seed=at) for at, (name, shape) in enumerate(SHAPES.items())}
    return weights, {"x": generic((ROWS, WIDTH), seed=50)}


def pair_of(*wrong, scanned=True, scale=1.0):
    right = side("nnx", partial(nnx_apply, How(wrong, scanned)), scale)
    return Pair(name="p", sides={"linen": side("linen", linen_apply), "nnx": right}, prepare=drawn)
