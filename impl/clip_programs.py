"""What QK-Clip must do in training, told from each step and the same step without it. Calculated again in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from impl.config import ModelConfig
from impl.experts import attention_name
from impl.latent import PEAKS
from impl.requested import training_of
from impl.stacks import places
from impl.training.objective import Batch
from impl.trees import flat

__all__ = ["Seen", "Watch", "claims"]

Settings = Mapping[str, Any]
Values = Mapping[str, np.ndarray]

ROUNDINGS = 1e-4
"""Part of a leaf's largest entry by which two compiled programs may differ; a factor moves it by tenths."""


class Seen(NamedTuple):
    """One step. largest: logits [layers, H] of its batch before it, taken whole; reported: the largest, as a metric.

    weights, slots: after it, by neutral name; unclipped, unclipped_slots: had nothing been clipped. kept: whether the
    state has the leaves that it had.
    """

    largest: np.ndarray
    reported: np.ndarray
    weights: Values
    slots: Values
    unclipped: Values
    unclipped_slots: Values
    kept: bool


class Watch:
    """Takes each step of `trainer` once more without clipping, from the same state, and measures its batch before it.

    made: a trainer from settings. A batch is measured whole, by a trainer that does not cut it into microbatches.
    """

    def __init__(self, made: Callable[[Settings], Any], settings: Settings, batches: Sequence[Batch]):
        self.trainer, self.batches = made(settings), batches
        self.unclipped = made(_laid(settings, "overriding", use_qk_clip=False))
        cut = training_of(settings).gradient_accumulation_steps > 1
        self.whole = made(_laid(settings, "retrained", gradient_accumulation_steps=1)) if cut else self.trainer
        self.seen: list[Seen] = []
        self._look()

    def _look(self) -> None:
        """What the next step starts from."""
        self._before = self.trainer.tree()
        if self.whole is not self.trainer:
            self.whole.restore(self._before)
        self._largest = self.whole.gradients(self.batches[len(self.seen)])[1].aux[PEAKS]

    def stepped(self, metrics: Values) -> None:
        """To be called after each step."""
        self.unclipped.restore(self._before)
        self.unclipped.step(self.batches[len(self.seen)])
        seen, plain = self.trainer, self.unclipped
        kept = _shapes(seen.tree()) == _shapes(self._before)
        reported = metrics[f"learning/{PEAKS}"]
        held = (seen.weights(), seen.slots(), plain.weights(), plain.slots())
        self.seen.append(Seen(self._largest, reported, *held, kept))
        if len(self.seen) < len(self.batches):
            self._look()


def _laid(settings: Settings, key: str, **fields: Any) -> Settings:
    """Settings with fields laid over those that are under `key` already."""
    return {**settings, key: {**settings.get(key, {}), **fields}}


def _shapes(tree: Any) -> dict[Any, Any]:
    return {path: np.shape(leaf) for path, leaf in flat(tree).items()}


def claims(config: ModelConfig, seen: Sequence[Seen]) -> dict[str, np.bool_]:
    """What must hold on a side by itself: all that clipping did, and that it did nothing else."""
    beyond = np.stack([each.largest for each in seen]) > config.qk_clip_threshold
    factors = [np.minimum(1.0, config.qk_clip_threshold / each.largest.astype(float)) for each in seen]
    expected = {name: (row, made) for row, found in enumerate(_kernels(config)) for name, made in found.items()}
    others = [name for name in seen[0].weights if name not in expected]
    told = {
        "some heads are beyond the threshold": beyond.any(),
        "some heads are not beyond the threshold": not beyond.all(),
        "layers differ in which heads are beyond it": (beyond != beyond[:, :1]).any(),
        "the reported logit is the largest": all(
            np.isclose(each.reported, each.largest.max(), rtol=ROUNDINGS) for each in seen
        ),
        "the state keeps its leaves": all(each.kept for each in seen),
        "no other weight is touched": all(_same(each.weights[n], each.unclipped[n]) for each in seen for n in others),
        "no moment is touched": all(_same(each.slots[n], each.unclipped_slots[n]) for each in seen for n in each.slots),
    }
    for name, (row, made) in expected.items():
        told[f"{name} is the updated one, clipped by head"] = all(
            _same(each.weights[name], made(each.unclipped[name].astype(float), by_layer[row]))
            for each, by_layer in zip(seen, factors, strict=True)
        )
    return {name: np.bool_(held) for name, held in told.items()}


def _same(value: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.all(np.abs(value - expected) <= ROUNDINGS * max(np.abs(expected).max(), ROUNDINGS)))


def _kernels(config: ModelConfig) -> list[dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]]:
    """Of each layer in forward order: neutral name of a kernel -> (kernel, factors of the heads) -> clipped."""
    still, query = config.qk_nope_head_dim, "wq_b" if config.q_lora_rank else "query"

    def of_query(kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
        return _by_column(kernel, factors, np.where(np.arange(kernel.shape[-1]) < still, 0.5, 1.0))

    def of_keys(kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
        return _by_column(kernel, factors, np.where(np.arange(kernel.shape[-1]) < still, 0.5, 0.0))

    roots = [f"{place.name}/{attention_name(config)}" for place in places(config)]
    return [{f"{root}/{query}/kernel": of_query, f"{root}/wkv_b/kernel": of_keys} for root in roots]


def _by_column(kernel: np.ndarray, factors: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Column d of head h [C, H, D] times the head's factor to the power of the column."""
    return kernel * factors[:, None] ** powers
