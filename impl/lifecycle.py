"""Programs about what outlives a step: dropout streams, resuming, and refusing what makes no sense."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from impl.config import ConfigError, ModelConfig
from impl.sides import side
from impl.training.checks import BatchError
from impl.training.loop import Checkpoints, fit
from impl.training.objective import Batch
from impl.training.settings import TrainSettings

__all__ = ["CALM", "dropout", "refusals", "resume"]

Values = Mapping[str, np.ndarray]
Channels = dict[str, dict[str, Any]]
Batches = Callable[[int], Batch]

CALM = TrainSettings(adam_eps=1e-4)
"""Where a gradient is nothing but rounding, Adam would take whole steps of noise: goldens must not hold those."""

FROZEN = TrainSettings(learning_rate=0.0, schedule="scalar", adam_weight_decay=0.0)
"""Settings under which a step changes no weight: what differs from step to step is dropout alone."""


def dropout(name: str, config: ModelConfig, weights: Values, batch: Batches, microbatches: int) -> Channels:
    """What dropout must do on any side. Masks themselves differ between sides by design, so they are not compared.

    Each step, each pass of each MLP, each layer and each row draws its own mask; a stream that starts again repeats
    itself; evaluation draws nothing; as many units are dropped as the rate says (five standard deviations).
    """
    settings = replace(FROZEN, gradient_accumulation_steps=microbatches)
    losses = _losses(name, config, settings, weights, batch(0))
    twin = Batch(*[np.repeat(np.asarray(field)[:1], len(field), axis=0) for field in batch(0)])
    masks, later = (_masks(side(name).taps(config, weights, twin, 5, passes)) for passes in (1, 2))
    quiet = side(name).Trainer(config, settings, weights, 5)
    first, second = quiet.logits(batch(0)), quiet.logits(batch(0))
    kept = np.mean([1.0 - mask.mean() for mask in masks.values()])
    draws = sum(mask.size for mask in masks.values())
    spread = 5.0 * np.sqrt(config.dropout_rate * (1.0 - config.dropout_rate) / draws)
    layers = itertools.combinations(masks.values(), 2)
    again = _losses(name, config, settings, weights, batch(0))
    return {
        "claims": {
            "steps draw different masks": np.bool_(len(set(losses)) == len(losses)),
            "the same stream repeats itself": np.bool_(losses == again),
            "passes draw different masks": np.bool_(all(not np.array_equal(m, later[p]) for p, m in masks.items())),
            "layers draw different masks": np.bool_(all(not np.array_equal(a, b) for a, b in layers)),
            "rows draw different masks": np.bool_(all(not np.array_equal(m[0], m[1]) for m in masks.values())),
            "the drop rate is the configured one": np.bool_(abs(kept - (1.0 - config.dropout_rate)) < spread),
            "evaluation draws nothing": np.bool_(np.array_equal(first, second)),
        },
        "outputs": {"logits": first},
    }


def _losses(name: str, config: ModelConfig, settings: TrainSettings, weights: Values, batch: Batch) -> list[float]:
    trainer = side(name).Trainer(config, settings, weights, 5)
    return [float(trainer.step(batch)["learning/loss"]) for _ in range(4)]


def _masks(taps: Values) -> dict[str, np.ndarray]:
    """Dropped units [B, F] of each MLP's dropout: one mask serves all positions of a row."""
    return {
        path: np.all(value == 0, axis=1) for path, value in taps.items() if path.endswith("/dropout") and "mlp" in path
    }


def resume(name: str, config: ModelConfig, weights: Values, batch: Batches, steps: int) -> Channels:
    """Interrupted equals uninterrupted: half the steps, a checkpoint on disk, another process's fresh state, the rest.

    Weights, slots, step, rng streams, statistics of quantised products and the losses after the break must be bit-equal
    on each side by itself; with dropout off they are compared between the sides too.
    """
    with tempfile.TemporaryDirectory(prefix="resume-") as folder:
        straight, expected = _trained(name, config, weights, batch, Path(folder) / "straight", (steps,))
        resumed, got = _trained(name, config, weights, batch, Path(folder) / "broken", (steps // 2, steps))
    straight_after, after = ({**of.weights(), **of.slots(), **of.statistics()} for of in (straight, resumed))
    claims = {f"{key} resumes": np.bool_(np.array_equal(value, after[key])) for key, value in straight_after.items()}
    for step, metrics in got.items():
        claims.update(
            {f"step{step}/{key} resumes": np.bool_(value == expected[step][key]) for key, value in metrics.items()}
        )
    claims["training went on after the break"] = np.bool_(len(got) == steps - steps // 2)
    channels: Channels = {"claims": claims}
    return channels if config.dropout_rate else {**channels, "updates": after}


def _trained(
    name: str, config: ModelConfig, weights: Values, batch: Batches, folder: Path, stops: tuple[int, ...]
) -> tuple[Any, dict[int, Any]]:
    """A trainer that ran up to each of `stops` in turn, each time from a fresh state and the newest checkpoint.

    Fresh states start from other weights: whatever a checkpoint does not bring back stays visibly wrong. The seed is
    the configuration's, as for a restarted job: Linen derives its keys from it and the step, NNX from its counters.
    """
    metrics: dict[int, Any] = {}
    for begun, stop in enumerate(stops):
        start = {key: value + begun for key, value in weights.items()}
        trainer = side(name).Trainer(config, CALM, start, 5)
        metrics = fit(trainer, batch, stop, Checkpoints(folder, max(stops)))
    return trainer, metrics


def refusals(name: str, config: ModelConfig, weights: Values, batch: Batches) -> Channels:
    """Hostile input: each must be refused, on every side with the same kind of error, and the message must say what.

    Messages are not compared word for word: a side names leaves by its own paths.
    """
    good, dense = batch(0), "decoder/decoder_norm/scale"
    wrong = {key: value for key, value in weights.items() if key != dense}
    count = len(good.tokens) + 1

    def made(values: Values, **settings: Any) -> Any:
        return side(name).Trainer(config, TrainSettings(**settings), values, 5)

    hostile: dict[str, tuple[str, Callable[[], Any]]] = {
        "weight missing": (dense, lambda: made(wrong)),
        "weight too many": ("decoder/surplus", lambda: made({**weights, "decoder/surplus": weights[dense]})),
        "weight of another shape": ("decoder_norm", lambda: made({**weights, dense: weights[dense][1:]})),
        "weight of another dtype": (
            "decoder_norm",
            lambda: made({**weights, dense: weights[dense].astype(np.float16)}),
        ),
        "tokens beyond the vocabulary": ("vocab_size", lambda: made(weights).step(_tokens(good, config.vocab_size))),
        "negative tokens": ("tokens", lambda: made(weights).logits(_tokens(good, -1))),
        "tokens as floats": ("float", lambda: made(weights).step(good._replace(tokens=good.tokens.astype(np.float32)))),
        "one row too few": ("targets", lambda: made(weights).gradients(good._replace(targets=good.targets[1:]))),
        "rows that do not divide": (
            str(count),
            lambda: made(weights, gradient_accumulation_steps=count).step(good),
        ),
        "a checkpoint of another depth": ("layers", lambda: made(weights).restore(_deeper(name, config, weights))),
        "a flag combination that makes no sense": ("enable_nnx", lambda: _resolve(config)),
    }
    kinds, claims = {}, {}
    for what, (word, attempt) in hostile.items():
        kind, message = _attempt(attempt)
        kinds[what] = kind
        claims[f"{what} is refused"] = np.bool_(kind != "nothing")
        claims[f"{what}: the message names {word}"] = np.bool_(word in message)
    return {"outputs": kinds, "claims": claims}


def _attempt(call: Callable[[], Any]) -> tuple[str, str]:
    try:
        call()
    except (ConfigError, BatchError, ValueError) as problem:
        return type(problem).__name__, str(problem)
    return "nothing", ""


def _tokens(batch: Batch, value: int) -> Batch:
    tokens = np.array(batch.tokens)
    tokens[-1, 0] = value
    return batch._replace(tokens=tokens)


def _deeper(name: str, config: ModelConfig, weights: Values) -> Any:
    from impl.params import draw

    deeper = replace(config, num_decoder_layers=config.num_decoder_layers + 1)
    return side(name).Trainer(deeper, TrainSettings(), draw(deeper, 1), 5).tree()


def _resolve(config: ModelConfig) -> str:
    from impl.sides import resolve

    return resolve(replace(config, pure_nnx=True, enable_nnx=False, pure_nnx_decoder=True))
