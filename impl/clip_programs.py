"""What QK-Clip must do in training, told from what each step starts from. Updates are calculated again in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from impl.config import ConfigError, ModelConfig
from impl.experts import attention_name, only_chooses
from impl.latent import PEAKS
from impl.requested import training_of
from impl.stacks import every_layer
from impl.training.objective import Batch
from impl.training.optimizers import learning_rate
from impl.training.settings import TrainSettings
from impl.trees import flat

__all__ = ["Seen", "Watch", "adamw", "claims"]

Settings = Mapping[str, Any]
Values = Mapping[str, np.ndarray]

ROUNDINGS = 1e-5
"""Part of a leaf's largest entry by which float32 and another compiled program may be off; factors are tenths."""


class Seen(NamedTuple):
    """One step. largest: logits [layers, H] of its batch before it, taken whole; reported: the largest, as a metric.

    before, after: weights and slots by neutral name. gradients: their norm not clipped yet.
    kept: whether the state has the leaves that it had.
    """

    largest: np.ndarray
    reported: np.ndarray
    gradients: Values
    before: Values
    after: Values
    kept: bool


class Watch:
    """A trainer, and what each of its steps started from and led to. made: a trainer from settings.

    A batch is measured whole, by a trainer that does not cut it into microbatches.
    """

    def __init__(self, made: Callable[[Settings], Any], settings: Settings, batches: Sequence[Batch]):
        train = training_of(settings)
        if train.opt_type != "adamw":
            raise ConfigError(
                f"opt_type={train.opt_type!r}: this program calculates the updates of adamw again; use it"
            )
        self.trainer, self.batches = made(settings), batches
        whole = {**settings, "retrained": {**settings.get("retrained", {}), "gradient_accumulation_steps": 1}}
        self.whole = made(whole) if train.gradient_accumulation_steps > 1 else self.trainer
        self.seen: list[Seen] = []
        self._look()

    def _look(self) -> None:
        """What the next step starts from."""
        self._tree, self._before = self.trainer.tree(), _held(self.trainer)
        batch = self.batches[len(self.seen)]
        self._gradients, terms = self.trainer.gradients(batch)
        if self.whole is not self.trainer:
            self.whole.restore(self._tree)
            terms = self.whole.gradients(batch)[1]
        self._largest = terms.aux[PEAKS]

    def stepped(self, metrics: Values) -> None:
        """To be called after each step."""
        kept = _shapes(self.trainer.tree()) == _shapes(self._tree)
        found = (self._largest, metrics[f"learning/{PEAKS}"], self._gradients, self._before)
        self.seen.append(Seen(*found, _held(self.trainer), kept))
        if len(self.seen) < len(self.batches):
            self._look()


def _held(trainer: Any) -> dict[str, np.ndarray]:
    return {**trainer.weights(), **trainer.slots()}


def _shapes(tree: Any) -> dict[Any, Any]:
    return {path: np.shape(leaf) for path, leaf in flat(tree).items()}


def claims(config: ModelConfig, settings: TrainSettings, seen: Sequence[Seen]) -> dict[str, np.bool_]:
    """What must hold on a side by itself: all that clipping did, and that it did nothing else."""
    tau = config.qk_clip_threshold
    beyond = np.stack([each.largest for each in seen]) > tau
    told = {
        "some heads are beyond the threshold": beyond.any(),
        "some heads are not beyond the threshold": not beyond.all(),
        "layers differ in which heads are beyond it": (beyond != beyond[:, :1]).any(),
        "the reported logit is the largest": all(_same(each.reported, each.largest.max()) for each in seen),
        "the state keeps its leaves": all(each.kept for each in seen),
    }
    updates = [adamw(settings, each.before, each.gradients) for each in seen]
    factors = [np.minimum(1.0, tau / np.maximum(each.largest.astype(float), tau)) for each in seen]
    kernels = {name: (row, made) for row, found in enumerate(_kernels(config)) for name, made in found.items()}
    others = [name for name in updates[0] if name not in kernels and not only_chooses(config, name)]
    told["everything else is what the optimizer made of it"] = all(
        _same(each.after[name], made[name]) for each, made in zip(seen, updates, strict=True) for name in others
    )
    for name, (row, clipped) in kernels.items():
        told[f"{name} is what the optimizer made of it, clipped by head"] = all(
            _same(each.after[name], clipped(made[name], by_layer[row]))
            for each, made, by_layer in zip(seen, updates, factors, strict=True)
        )
    return {name: np.bool_(held) for name, held in told.items()}


def _same(value: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.all(np.abs(value - expected) <= ROUNDINGS * max(np.abs(expected).max(), ROUNDINGS)))


def adamw(settings: TrainSettings, before: Values, gradients: Values) -> dict[str, np.ndarray]:
    """Weights and moments after one update (arXiv 1711.05101) with the norm of the gradients clipped, in float64."""
    wide = {name: value.astype(float) for name, value in gradients.items()}
    norm, limit = np.sqrt(sum(np.sum(value**2) for value in wide.values())), settings.gradient_clipping_threshold
    share = limit / norm if 0 < limit < norm else 1.0
    (b1, b2), count = (settings.adam_b1, settings.adam_b2), int(before["0/count"])
    rate = learning_rate(settings)
    now = float(rate(jnp.asarray(count)) if callable(rate) else rate)
    found = {}
    for name, value in wide.items():
        weight, gradient = before[name].astype(float), value * share
        mean = b1 * before[f"0/mu/{name}"].astype(float) + (1 - b1) * gradient
        square = b2 * before[f"0/nu/{name}"].astype(float) + (1 - b2) * gradient**2
        found[f"0/mu/{name}"], found[f"0/nu/{name}"] = mean, square
        root = np.sqrt(square / (1 - b2 ** (count + 1)) + settings.adam_eps_root) + settings.adam_eps
        found[name] = weight - now * (mean / (1 - b1 ** (count + 1)) / root + settings.adam_weight_decay * weight)
    return found


def _kernels(config: ModelConfig) -> list[dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]]:
    """Of each layer in forward order: neutral name of a kernel -> (kernel, factors of the heads) -> clipped."""
    still, query = config.qk_nope_head_dim, "wq_b" if config.q_lora_rank else "query"

    def of_query(kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
        return _by_column(kernel, factors, np.where(np.arange(kernel.shape[-1]) < still, 0.5, 1.0))

    def of_keys(kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
        return _by_column(kernel, factors, np.where(np.arange(kernel.shape[-1]) < still, 0.5, 0.0))

    roots = [f"{place.name}/{attention_name(config)}" for place in every_layer(config)]
    return [{f"{root}/{query}/kernel": of_query, f"{root}/wkv_b/kernel": of_keys} for root in roots]


def _by_column(kernel: np.ndarray, factors: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Column d of head h [C, H, D] times the head's factor to the power of the column."""
    return kernel * factors[:, None] ** powers
