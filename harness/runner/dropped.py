"""How a worker hands the ruler's observation to its parent for golden regeneration: files in a folder, not a pipe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from harness.case import Case
from harness.golden.acceptance import PENDING, GoldenError, pending
from harness.golden.document import GoldenCase
from harness.golden.store import Missing, Stale, Tampered, read_document
from harness.observation import Observation

__all__ = ["collect", "drop"]


def drop(folder: Path, case: Case, observation: Observation) -> None:
    """Writes the observation of the case's ruler into a folder of its own in `folder`: a golden of one case."""
    own = folder / hashlib.sha256(case.name.encode()).hexdigest()[:24]
    pending(own, case.scenario, {case.golden: (observation, case.digest)}, {case.golden: case.digest})


def collect(folder: Path, scenario: str) -> Mapping[str, GoldenCase]:
    """Golden key -> what was dropped for it, over all cases of a scenario.

    Several cases may share a ruler. Raises GoldenError if they dropped different values for it, or a broken file.
    """
    found: dict[str, GoldenCase] = {}
    for own in sorted(path for path in folder.iterdir() if path.is_dir()):
        document = read_document(own / PENDING, scenario)
        if isinstance(document, Missing):
            continue
        if isinstance(document, (Stale, Tampered)):
            raise GoldenError(f"what a worker wrote for scenario {scenario!r} cannot be read: {document.sentence}")
        for key, case in document.cases.items():
            if key in found and found[key].entries != case.entries:
                raise GoldenError(
                    f"the ruler of {scenario!r}, case {key!r}, gave other values when it ran again in the same run: "
                    "make it deterministic before it becomes a golden"
                )
            found.setdefault(key, case)
    return found
