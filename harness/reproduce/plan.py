"""What a reproduction shows, as its worker found it: everything that the file says besides sources and arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.aside import write

__all__ = ["ARRAYS", "PLAN", "Plan", "ReproductionError", "Shown", "read", "store"]

PLAN, ARRAYS = "plan.json", "case.npz"
"""What the worker leaves in its folder."""


class ReproductionError(ValueError):
    """A case that cannot be written as a file of its own. The message names what stands in the way, and the cure."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One of the two runs. settings: what is laid over the case's, as Python text."""

    side: str
    program: str
    settings: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One reproduction.

    case, pair, why: the case's name, its pair's specification, and why its scenario exists.
    runs, settings: as Python text, for which `imports` are needed. record: the plain fields of the Case.
    first: "channel/name (reason)" of the first divergence, "" if both agree; described: the same in a sentence.
    module: where it was placed. taps: the program that shows the module too, "" if none does.
    notes: sentences: what was left out to make it smaller, the operation at which the graphs part.
    allow: (pattern, rtol, atol, because). dtypes: key of an array that NumPy cannot store -> (dtype name, shape).
    environment: of the run that this reproduces. variables: environment variables that it ran under.
    """

    case: str
    pair: str
    why: str
    runs: tuple[Shown, Shown]
    settings: str
    imports: tuple[str, ...]
    record: Mapping[str, Any]
    first: str
    described: str
    module: str
    taps: str
    notes: tuple[str, ...]
    allow: tuple[tuple[str, float, float, str], ...]
    dtypes: Mapping[str, tuple[str, tuple[int, ...]]]
    environment: Mapping[str, Any]
    variables: Mapping[str, str]


def store(folder: Path, plan: Plan, arrays: bytes) -> None:
    """Writes plan and arrays into `folder`, the plan last: where it is, all of it is."""
    write(folder / ARRAYS, arrays)
    write(folder / PLAN, json.dumps(asdict(plan)).encode())


def read(folder: Path) -> Plan | None:
    """The plan that `store` left in `folder`; None if there is none. What its worker wrote is trusted."""
    if not (folder / PLAN).is_file():
        return None
    found = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    left, right = (Shown(**run) for run in found["runs"])
    changed = {
        "runs": (left, right),
        "allow": tuple(tuple(each) for each in found["allow"]),
        "dtypes": {key: (name, tuple(shape)) for key, (name, shape) in found["dtypes"].items()},
        **{name: tuple(found[name]) for name in ("imports", "notes")},
    }
    return Plan(**{**found, **changed})
