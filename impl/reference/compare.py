"""Both sides on a reference's weights and inputs: logits, loss terms and gradients held against its numbers.

Letters as in `impl.math`. All positions are compared, padding included: there as here it attends to itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from impl.config import ModelConfig
from impl.experts import told
from impl.math.loss import EPSILON
from impl.names import nearest
from impl.reference.folder import Reference, ReferenceFolderError, Variant, read_reference
from impl.reference.noise import room
from impl.reference.records import Measured, ReferenceReport, Run
from impl.sides import SIDES as KNOWN
from impl.sides import side as module_of
from impl.training.objective import PREDICTION_SUM, PREDICTION_WEIGHTS, Terms, objective
from impl.training.settings import TrainSettings

__all__ = ["REASONS", "SIDES", "compare_reference", "with_room"]

SIDES = ("linen", "nnx")

LOGITS, LOGITS_PART, LOSS, GRADIENT, FLIPS = 1e-5, 1e-6, 1e-6, 1e-5, 0.01
MOST = 10.0
FLOAT_STEP, BRAIN_STEP = 2.0**-23, 2.0**-7

REASONS = (
    "logits: 1e-5, or a millionth of the largest logit where that is more. Both are float32 noise of a sum over E and "
    "of everything before it: an independent float64 forward pass is 4e-6 away at logits up to 4.5, and the sums here "
    "are taken in another order than there; seen 3.3e-6 at 4.3 and 1.7e-5 at 48. Where float32 logits need more, "
    "`impl.reference.noise` derives from the weights how much more two sound passes may need, ten times as much at "
    "most; MaxText's own gemma2 was seen 9.2e-6 from float64",
    "loss terms: a millionth of the term, eight float32 steps: a sum over some hundred tokens, seen 9e-8",
    "gradients: 1e-5 of the leaf's largest, plus one float32 step of the model's largest gradient for leaves in which "
    "everything cancels (a key's bias shifts all logits of a softmax alike); seen 2.2e-6 of the leaf's largest",
    "gradients that pass through bfloat16 (the table of a tied head, weights stored in it): one step of bfloat16 "
    "more, since noise moves a number over the edge between two, but in no more than a hundredth of the elements; "
    "seen in 3 of 32768. Of a tied table only the head's part is rounded, and what the lookup adds may cancel it in an "
    "element, hardly in a token's whole row: the step is of the row's largest. A tied table stored in bfloat16 sums "
    "two rounded parts: half a step of its largest more, seen a tenth of that",
    "where the model computes in bfloat16 the first three are 16384 times as wide: its steps are 65536 times as long, "
    "but products are summed in float32; seen 0.055 at logits up to 4.3. That is weak evidence",
)


def compare_reference(folder: Path, sides: Sequence[str] = SIDES) -> ReferenceReport:
    """Every variant of the reference in `folder` on each of `sides`. Raises ReferenceFolderError for bad input."""
    unknown = [name for name in sides if name not in KNOWN]
    if unknown or not sides:
        word = unknown[0] if unknown else ""
        raise ReferenceFolderError(nearest(f"no side is called {word!r}: there are {', '.join(KNOWN)}", word, KNOWN))
    reference = read_reference(folder)
    rooms = cache(partial(_room, reference))
    runs = [with_room(run, rooms) for name in sides for run in _runs(reference, name)]
    order = [variant.name for variant in reference.variants]
    return ReferenceReport(
        case=reference.case,
        source=reference.source,
        parameters=reference.config.parameters,
        runs=tuple(sorted(runs, key=lambda run: order.index(run.variant))),
        reasons=REASONS,
        notes=(*reference.notes, *_absent(reference)),
    )


def with_room(run: Run, rooms: Callable[[str], float]) -> Run:
    """`run` with wider bounds for logits that are beyond theirs: what `rooms` says for its variant, if that is more.

    Never more than MOST times as wide: a choice of experts that turns over in float64 would give any room.
    """

    def bound(row: Measured) -> float:
        return row.bound if row.passed else max(row.bound, min(rooms(run.variant), MOST * row.bound))

    return replace(run, logits=tuple(replace(row, bound=bound(row)) for row in run.logits))


def _room(reference: Reference, name: str) -> float:
    if reference.config.dtype != "float32":
        return 0.0
    batch = next(variant.batch for variant in reference.variants if variant.name == name)
    return room(reference.config, reference.weights, batch)


def _absent(reference: Reference) -> list[str]:
    """What the reference does not have, so that a pass is not read as more than it is."""
    rows = []
    for variant in reference.variants:
        parts = {"logits": variant.logits is not None, "loss": bool(variant.terms), "gradients": variant.gradients}
        gone = [name for name, there in parts.items() if not there]
        if gone:
            rows.append(f"{variant.name}: the reference has no {', '.join(gone)}")
    return rows


def _runs(reference: Reference, name: str) -> list[Run]:
    # Plain gradient descent keeps no slots: the optimizer is not what is compared.
    settings = TrainSettings(opt_type="sgd", schedule="scalar", z_loss_multiplier=reference.z_loss)
    trainer = module_of(name).Trainer(reference.config, settings, reference.weights)
    logits = _all_logits(trainer, reference.variants)
    return [
        _run(reference, settings, (name, trainer), (variant, logits[variant.name])) for variant in reference.variants
    ]


def _all_logits(trainer: Any, variants: Sequence[Variant]) -> dict[str, np.ndarray]:
    """Logits of each variant; rows of one length go through the model together, which compiles once."""
    result: dict[str, np.ndarray] = {}
    for length in {variant.batch.tokens.shape[1] for variant in variants}:
        alike = [variant for variant in variants if variant.batch.tokens.shape[1] == length]
        batches = [variant.batch for variant in alike]
        together = type(batches[0])(*[np.concatenate(fields) for fields in zip(*batches, strict=True)])
        ends = np.cumsum([batch.tokens.shape[0] for batch in batches])[:-1]
        result |= dict(zip((v.name for v in alike), np.split(trainer.logits(together), ends), strict=True))
    return result


def _run(
    reference: Reference, settings: TrainSettings, runner: tuple[str, Any], work: tuple[Variant, np.ndarray]
) -> Run:
    (name, trainer), (variant, logits) = runner, work
    config, gradients = reference.config, {}
    if variant.gradients or told(config):
        # What layers sow is in no logits. A gradient that the reference keeps in bfloat16 is compared as one.
        gradients, terms = trainer.gradients(variant.batch)
        gradients = {leaf: gradients[leaf].astype(theirs.dtype) for leaf, theirs in variant.gradients.items()}
    else:
        with jax.default_device(jax.devices("cpu")[0]):
            terms = objective(jax.numpy.asarray(logits), variant.batch, settings)[1]
    return Run(
        variant=variant.name,
        side=name,
        logits=_logits(logits, variant, config),
        terms=_terms(terms, gradients, variant, config),
        gradients=_gradients(gradients, variant.gradients, config),
    )


def _width(config: ModelConfig) -> float:
    """How much wider than in float32 the bounds are in the dtype of computation."""
    return 1.0 if config.dtype == "float32" else BRAIN_STEP / FLOAT_STEP / 4


def _logits(ours: np.ndarray, variant: Variant, config: ModelConfig) -> tuple[Measured, ...]:
    if variant.logits is None:
        return ()
    theirs = variant.logits.astype(np.float64)
    gap = np.abs(ours.astype(np.float64) - theirs)
    row, position, token = np.unravel_index(_worst(gap), gap.shape)
    padding = " (padding)" if variant.batch.segment_ids[row, position] == 0 else ""
    scale = float(np.abs(theirs).max())
    return (
        Measured(
            name="logits",
            value=float(gap[row, position, token]),
            bound=max(LOGITS, LOGITS_PART * scale) * _width(config),
            scale=scale,
            where=f"row {row}, position {position}{padding}, token {token}",
        ),
    )


def _worst(gap: np.ndarray) -> int:
    """Flat index of the largest gap; one that is not a number is larger than all."""
    return int(np.argmax(np.where(np.isnan(gap), np.inf, gap)))


def _terms(
    terms: Terms, gradients: Mapping[str, np.ndarray], variant: Variant, config: ModelConfig
) -> tuple[Measured, ...]:
    xent, z_sum, weights = (float(term) for term in terms[:3])
    balance = float(terms.aux.get("moe_lb_loss", 0.0))
    further = float(terms.aux.get(PREDICTION_SUM, 0.0)) / (float(terms.aux.get(PREDICTION_WEIGHTS, 0.0)) + EPSILON)
    ours = {
        "xent_sum": xent,
        "total_weights": weights,
        "loss": xent / (weights + EPSILON) + further + balance,
        "mtp_loss": further,
        "moe_lb_loss": balance,
        "lm_loss": xent / (weights + EPSILON),
        "z_loss": z_sum / (weights + EPSILON),
    }
    # A term of models that do not exist here; were it not 0, the reference's loss would hold it.
    ours |= {name: 0.0 for name in ("indexer_loss",) if name in variant.terms}
    if gradients:
        squares = [np.sum(np.square(leaf.astype(np.float64))) for leaf in gradients.values()]
        ours["raw_grad_norm"] = math.sqrt(sum(squares))
    rows = []
    for name in [name for name in ours if name in variant.terms]:
        theirs = float(variant.terms[name])
        part = GRADIENT if name == "raw_grad_norm" else LOSS
        bound = 0.0 if name == "total_weights" else part * abs(theirs) * _width(config)
        rows.append(Measured(name=name, value=abs(ours[name] - theirs), bound=bound, scale=abs(theirs)))
    return tuple(rows)


def _gradients(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], config: ModelConfig
) -> tuple[Measured, ...]:
    largest = max((float(np.abs(leaf.astype(np.float64)).max()) for leaf in theirs.values()), default=0.0)
    rows: list[Measured] = []
    for name, leaf in theirs.items():
        table = config.round_tied_table and name == "token_embedder/embedding"
        mine, its, stored = ours[name].astype(np.float64), leaf.astype(np.float64), str(leaf.dtype)
        plain = (GRADIENT * float(np.abs(its).max()) + FLOAT_STEP * largest) * _width(config)
        if table and stored == "bfloat16":
            plain += BRAIN_STEP / 2 * float(np.abs(its).max())
        rounded = np.abs(its).max(axis=-1, keepdims=True) if table else np.maximum(np.abs(mine), np.abs(its))
        rows += _leaf(name, mine, its, (plain, BRAIN_STEP * rounded if table or stored == "bfloat16" else None))
    return tuple(rows)


def _leaf(name: str, ours: np.ndarray, theirs: np.ndarray, bounds: tuple[float, np.ndarray | None]) -> list[Measured]:
    """One leaf: the element nearest to its bound or furthest beyond, and how many needed bfloat16's step.

    bounds: the bound of an element, and the step it may take if it passes through bfloat16.
    """
    plain, step = bounds
    gap, scale = np.abs(ours - theirs), float(np.abs(theirs).max())
    allowed = np.broadcast_to(plain if step is None else plain + step, theirs.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.unravel_index(_worst(np.where(gap == 0, 0.0, gap / allowed)), gap.shape)
    where = f"[{', '.join(map(str, at))}]"
    rows = [Measured(name=name, value=float(gap[at]), bound=float(allowed[at]), scale=scale, where=where)]
    if step is not None:
        share = float(np.mean(~(gap <= plain)))
        rows.append(Measured(name=f"{name}: rounded otherwise", value=share, bound=FLIPS, scale=1.0))
    return rows
