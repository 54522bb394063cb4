"""The faults of `impl`, and its clean variations. All of it is data; how it is used is in `harness.faults`."""

from pathlib import Path

from harness.faults.catalogue import (
    bridged,
    clip,
    experts,
    forward,
    fp8,
    latent,
    layers,
    lifecycle,
    linen,
    memory,
    mtp,
    norms,
    preference,
    routing,
    serving,
    shardings,
    tiling,
    training,
    variations,
)
from harness.faults.record import Catalogue

__all__ = ["CATALOGUE"]

_ROOT = Path(__file__).resolve().parents[3]

CATALOGUE = Catalogue(
    root=_ROOT,
    pair="impl",
    folder=str(_ROOT / "scenarios"),
    faults=(
        *forward.FAULTS,
        *layers.FAULTS,
        *training.FAULTS,
        *tiling.FAULTS,
        *lifecycle.FAULTS,
        *serving.FAULTS,
        *routing.FAULTS,
        *linen.FAULTS,
        *bridged.FAULTS,
        *experts.FAULTS,
        *latent.FAULTS,
        *clip.FAULTS,
        *memory.FAULTS,
        *mtp.FAULTS,
        *norms.FAULTS,
        *preference.FAULTS,
        *fp8.FAULTS,
        *shardings.FAULTS,
    ),
    variations=variations.VARIATIONS,
)
