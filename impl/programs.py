"""The programs that every side offers under the same names: (settings, weights, inputs) -> channel -> name -> value.

Written once over the sides' `Trainer` and `Engine`; which side runs is decided by the table in `impl.sides` alone.
Settings: "config" a ModelConfig, "train" a TrainSettings, and sizes (rows, length, steps...), all optional.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from impl import clip_programs, fp8_programs, lifecycle, preference_programs, serving_programs, sharding_programs
from impl.checkpoint_programs import conversion, crossing
from impl.config import ModelConfig
from impl.experts import only_chooses
from impl.inputs import FIELDS, batches, unweighted
from impl.names import addresses
from impl.params import draw
from impl.requested import ROWS, config_of, exact, precision, preference_of, reordered, training_of
from impl.sides import SIDES, address, side
from impl.training.objective import Batch, named_terms

__all__ = [
    "FRAMEWORKS",
    "SIDES",
    "batch",
    "dropout",
    "eager_gradients",
    "exact",
    "forward",
    "fp8",
    "gradients",
    "precision",
    "prepare",
    "programs",
    "qk_clip",
    "refusals",
    "reordered",
    "resume",
    "stepper",
    "structure",
    "table",
    "taps",
    "train",
]

Channels = dict[str, dict[str, Any]]
Settings = Mapping[str, Any]
Values = Mapping[str, np.ndarray]

FRAMEWORKS = {name: frozenset(part for part in ("linen", "nnx") if part in name.split("_")) for name in SIDES}


def prepare(settings: Settings, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights by neutral name and batches, drawn from `seed` in NumPy."""
    config = config_of(settings)
    if preference_of(settings).enable:
        return draw(config, seed), preference_programs.inputs(settings, seed)
    rows = settings.get("rows", ROWS)
    made = batches(
        rows=rows,
        length=config.max_target_length,
        steps=settings.get("steps", 1),
        seed=seed,
        offset=settings.get("offset", 0),
        stride=settings.get("stride", 1),
    )
    if "unweighted" in settings:
        made = unweighted(made, settings["unweighted"])
    if "prompts" in settings:
        made = {**made, **serving_programs.requests(settings, seed)}
    return draw(config, seed), made


def table(settings: Settings) -> dict[str, dict[str, str]]:
    """Neutral name -> side -> address: how each parameter is called after the migration."""
    linen, nnx = addresses(config_of(settings), "layers_{i}"), addresses(config_of(settings), "layers/{i}")
    return {name: {"linen": f"params.{linen[name]}", "nnx": str(nnx[name])} for name in linen}


def batch(inputs: Values, step: int) -> Batch:
    """The batch of one step."""
    return Batch(*[inputs[f"step{step}/{field}"] for field in FIELDS])


def programs(name: str) -> dict[str, Callable[[Settings, Values, Values], Channels]]:
    """Every program of the side called `name`. A bridged side trains; taps and serving are the native sides'."""
    address(name)
    offered = _PROGRAMS if len(FRAMEWORKS[name]) == 1 else {key: _PROGRAMS[key] for key in _TRAINING}
    return {program: partial(function, name) for program, function in offered.items()}


def stepper(name: str, settings: Settings, weights: Values, inputs: Values) -> tuple[Callable[[], Any], dict[str, int]]:
    """The side's train step on the first batch, ready to be timed, and its compiled sizes in bytes."""
    return _trainer(name, settings, weights).stepper(batch(inputs, 0))


def _trainer(name: str, settings: Settings, weights: Values) -> Any:
    return side(name).Trainer(config_of(settings), training_of(settings), weights, settings.get("key", 7))


def structure(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """What a freshly initialised state is made of."""
    return {"structure": _trainer(name, settings, weights).structure()}


def forward(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """Logits of the first batch, dropout off."""
    return {"outputs": {"logits": _trainer(name, settings, weights).logits(batch(inputs, 0))}}


def taps(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """The output of every module on the first batch, by module path, in forward order."""
    rows = preference_programs.tapped(inputs) if preference_of(settings).enable else batch(inputs, 0)
    return {"intermediates": side(name).taps(config_of(settings), weights, rows)}


def gradients(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """Loss terms and gradients of the first batch, before any optimizer."""
    found, terms = _trainer(name, settings, weights).gradients(batch(inputs, 0))
    losses = {f"gradient/{field}": value for field, value in named_terms(terms).items()}
    claims = dict(_slope(config_of(settings), parameter, value) for parameter, value in found.items())
    return {
        "claims": {**_terms_matter({"loss": losses["gradient/xent_sum"], **losses}), **claims},
        "loss": losses,
        "gradients": found,
    }


def _slope(config: ModelConfig, parameter: str, gradient: np.ndarray) -> tuple[str, np.bool_]:
    """A claim: everything has a gradient, but a routing bias that only chooses must have none."""
    if only_chooses(config, parameter):
        return f"{parameter} has no gradient", np.bool_(not np.any(gradient))
    return f"{parameter} has a gradient", np.bool_(np.any(gradient != 0))


def eager_gradients(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """`gradients`, operation by operation, with nothing compiled as a whole."""
    with jax.disable_jit():
        return gradients(name, settings, weights, inputs)


def train(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """Structure, the first batch's gradients, then k steps: metrics of each, and weights and slots after the last."""
    return _trained(_trainer(name, settings, weights), settings, weights, inputs, lambda _: None)


def _trained(
    trainer: Any, settings: Settings, weights: Values, inputs: Values, stepped: Callable[[Values], None]
) -> Channels:
    """`train` by `trainer`; `stepped` is called with the metrics of each step after it."""
    steps = settings.get("steps", 1)
    gradients, terms = trainer.gradients(batch(inputs, 0))
    losses = {f"gradient/{field}": value for field, value in named_terms(terms).items()}
    for step in range(steps):
        metrics = trainer.step(batch(inputs, step))
        losses.update({f"step{step}/{key}": value for key, value in metrics.items()})
        stepped(metrics)
    after = trainer.weights()
    return {
        "structure": trainer.structure(),
        "claims": {**_terms_matter(losses), **_all_moved(weights, after)},
        "loss": losses,
        "gradients": gradients,
        "updates": {**after, **trainer.slots()},
    }


def fp8(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """`train`, and the statistics of quantised products after each step: `impl.fp8_programs`."""
    trainer = _trainer(name, settings, weights)
    seen = [fp8_programs.look(trainer)]
    found = _trained(trainer, settings, weights, inputs, lambda _: seen.append(fp8_programs.look(trainer)))
    claims = fp8_programs.claims(config_of(settings), seen, trainer.slots())
    return {**found, "claims": {**found["claims"], **claims}, "state": fp8_programs.state(seen)}


def qk_clip(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """`train`, and what became of every kernel, calculated again: `impl.clip_programs`."""
    steps = [batch(inputs, step) for step in range(settings.get("steps", 1))]
    watch = clip_programs.Watch(lambda asked: _trainer(name, asked, weights), settings, steps)
    found = _trained(watch.trainer, settings, weights, inputs, watch.stepped)
    claims = clip_programs.claims(config_of(settings), training_of(settings), watch.seen)
    return {**found, "claims": {**found["claims"], **claims}}


def dropout(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """`impl.lifecycle.dropout`."""
    return lifecycle.dropout(
        name, config_of(settings), weights, partial(batch, inputs), settings.get("microbatches", 1)
    )


def resume(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """`impl.lifecycle.resume`."""
    return lifecycle.resume(name, config_of(settings), weights, partial(batch, inputs), settings["steps"])


def refusals(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """`impl.lifecycle.refusals`."""
    return lifecycle.refusals(name, config_of(settings), weights, partial(batch, inputs))


def _terms_matter(losses: Mapping[str, np.ndarray]) -> dict[str, np.bool_]:
    """A term that is 0 on both sides is equal and proves nothing; so is a rate that never leaves 0 or 100."""
    found = {f"{name} is not zero": np.bool_(value != 0) for name, value in losses.items() if "loss" in name}
    rates = [value for name, value in losses.items() if name.endswith("_percent")]
    return {**found, **({"rates vary": np.bool_(any(0 < rate < 100 for rate in rates))} if rates else {})}


def _all_moved(before: Values, after: Values) -> dict[str, np.bool_]:
    return {f"{name} was trained": np.bool_(not np.array_equal(before[name], after[name])) for name in before}


_TRAINING = ("structure", "forward", "gradients", "train", "fp8")
"""Programs that need nothing of a side but its Trainer."""

_PROGRAMS: dict[str, Callable[..., Channels]] = {
    "structure": structure,
    "forward": forward,
    "gradients": gradients,
    "eager_gradients": eager_gradients,
    "taps": taps,
    "train": train,
    "fp8": fp8,
    "qk_clip": qk_clip,
    "dropout": dropout,
    "resume": resume,
    "conversion": conversion,
    "crossing": crossing,
    "refusals": refusals,
    "decode": serving_programs.decode,
    "decode_logits": serving_programs.decode_logits,
    "full": serving_programs.full,
    "dpo": preference_programs.dpo,
    "dpo_resume": preference_programs.dpo_resume,
    "collectives": sharding_programs.collectives,
    "sharded": sharding_programs.sharded,
    "sharded_train": sharding_programs.sharded_train,
    "single_train": sharding_programs.single_train,
}
