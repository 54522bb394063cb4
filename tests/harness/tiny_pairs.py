"""Three layers in Linen and in NNX, small enough to run eagerly, and sides that do not do what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from harness.case import Case
from harness.discover import expand
from harness.pair import Pair, Side
from harness.prepare import prepare
from harness.scenario import Run, Scenario

LAYERS = {"first": 5, "second": 3, "third": 2}
"""Layer -> width of its output, in forward order."""

ROWS, FEATURES = 4, 7


class LinenLayer(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.normal(), (x.shape[-1], self.features))
        return jnp.tanh(x @ kernel)


class LinenNet(nn.Module):
    """Layer -> its output."""

    @nn.compact
    def __call__(self, x):
        seen = {}
        for name, width in LAYERS.items():
            seen[name] = x = LinenLayer(width, name=name)(x)
        return seen


class NnxLayer(nnx.Module):
    def __init__(self, kernel):
        self.kernel = nnx.Param(jnp.asarray(kernel))

    def __call__(self, x):
        return self.act(x @ self.kernel[...])

    def act(self, x):
        return jnp.tanh(x)


class NnxFlat(NnxLayer):
    """Another activation."""

    def act(self, x):
        return jnp.sin(x)


@jax.custom_vjp
def slipped_tanh(x):
    return jnp.tanh(x)


def _there(x):
    return jnp.tanh(x), x


def _back(x, cotangent):
    return (1.5 * cotangent * (1 - jnp.tanh(x) ** 2),)


slipped_tanh.defvjp(_there, _back)


class NnxSlipped(NnxLayer):
    """The right output, a wrong gradient."""

    def act(self, x):
        return slipped_tanh(x)


class NnxNet(nnx.Module):
    """Layer -> its output. kinds: layer -> class, where it is another one than NnxLayer."""

    def __init__(self, weights, kinds):
        for name in LAYERS:
            setattr(self, name, kinds.get(name, NnxLayer)(weights[f"{name}/kernel"]))

    def __call__(self, x):
        seen = {}
        for name in LAYERS:
            seen[name] = x = getattr(self, name)(x)
        return seen


Outputs = Callable[[Mapping[str, object], object], Mapping[str, object]]


def linen_outputs(weights, x):
    return LinenNet().apply({"params": {name: {"kernel": weights[f"{name}/kernel"]} for name in LAYERS}}, x)


def nnx_outputs(weights, x, kinds=()):
    return NnxNet(weights, dict(kinds))(x)


def mixed_outputs(weights, x):
    """NNX, but the last layer is still Linen's."""
    seen = dict(nnx_outputs(weights, x))
    seen["third"] = LinenLayer(2).apply({"params": {"kernel": weights["third/kernel"]}}, seen["second"])
    return seen


def forward(outputs: Outputs, case: Case, run: Run):
    y = outputs(case.weights, _x(case, run))["third"]
    return {"outputs": {"y": y}, "claims": {"y is not zero": np.bool_(np.any(y))}}


def taps(outputs: Outputs, case: Case, run: Run):
    return {"intermediates": outputs(case.weights, _x(case, run))}


def grad(outputs: Outputs, case: Case, run: Run):
    def loss(weights):
        return jnp.mean(outputs(weights, _x(case, run))["third"] ** 2)

    value, gradients = jax.value_and_grad(loss)(dict(case.weights))
    return {"loss": {"square": value}, "gradients": {name: gradients[name] for name in case.weights}}


def _x(case: Case, run: Run):
    return case.inputs["x"] * np.float32({**case.settings, **run.settings}.get("scale", 1.0))


PROGRAMS = {"forward": forward, "grad": grad, "taps": taps}


def side(name: str, framework: str, outputs: Outputs, **programs) -> Side:
    """A side that declares `framework` (or "linen nnx") and runs `outputs`; `programs` are laid over its own."""
    offered = {program: partial(function, outputs) for program, function in PROGRAMS.items()}
    return Side(name=name, frameworks=frozenset(framework.split()), programs={**offered, **programs})


LINEN = side("linen", "linen", linen_outputs)
NNX = side("nnx", "nnx", nnx_outputs)


def draw(settings, seed):
    """Weights and inputs; `wide` in the settings makes the weights larger."""
    random = np.random.default_rng([seed, 11])
    widths = [FEATURES, *LAYERS.values()]
    shapes = {f"{name}/kernel": (widths[i], widths[i + 1]) for i, name in enumerate(LAYERS)}
    weights = {name: random.standard_normal(shape, dtype="float32") for name, shape in shapes.items()}
    weights = {name: value * np.float32(settings.get("wide", 1.0)) for name, value in weights.items()}
    return weights, {"x": random.standard_normal((ROWS, FEATURES), dtype="float32")}


def pair_of(*sides: Side, name: str = "tiny", **scenarios: Scenario) -> Pair:
    return Pair(name=name, sides={each.name: each for each in sides}, prepare=draw, scenarios=scenarios)


SCENARIOS = {program: Scenario(why=f"{program} must agree", program=program) for program in PROGRAMS}
HONEST = pair_of(LINEN, NNX, **SCENARIOS)


def case_of(pair: Pair, program: str = "forward", **scenario) -> Case:
    """The first case of a scenario `program`, between the pair's first two sides."""
    between = tuple(pair.sides)[:2]
    made = Scenario(**{"why": "a test", "program": program, "sides": (between,), **scenario})
    return prepare(pair, made, expand(program, made)[0])
