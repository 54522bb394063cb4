"""Which moved since a golden was accepted, the graph or the toolchain, and what that says of a case that drifted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Literal

from harness.observation import Environment
from harness.verdict import Accepted, Ending, Rung, Verdict

__all__ = ["attributed"]

COMPILERS = ("jax", "jaxlib")
"""What makes other machine code of one graph, if its version changes."""

ABOUT_THE_RUN = ("platform", "device", "machine", "x64", "matmul_precision", "prng", "xla_flags")
"""What the user chose rather than installed: nothing is excused while one of these changed."""

_Graph = Literal["moved", "stayed", "unknown"]


def attributed(verdict: Verdict) -> Verdict:
    """`verdict` with the sentence on what moved since its golden, which stands in the detail too if it drifted.

    A case that drifted passes after all if the compiler alone can have moved it: parity held; the golden records a
    graph of every part of the program, and each is the ruler's of today; each side computes what the ruler does, by
    its bits or by proof; jax or jaxlib is another version, and nothing else that was chosen changed; and all that
    drifted are floats that kept half of the digits of their channel's largest value. Claims, structure, integers, text,
    infinities and what no rounding comes to are never excused.
    """
    if verdict.accepted is None or verdict.environment is None:
        return verdict
    graph, graphs = _graph(verdict, verdict.accepted.graphs)
    changes = _changes(verdict.accepted.environment, verdict.environment)
    sentence = _sentence(graph, graphs, changes)
    if verdict.ending is not Ending.DRIFTED:
        return replace(verdict, since_golden=sentence)
    if graph != "stayed" or not _compilers(verdict, verdict.accepted, changes):
        return replace(verdict, since_golden=sentence, detail="; ".join(x for x in (verdict.detail, sentence) if x))
    sentence = f"{sentence}: the drift is the compiler's"
    if verdict.parity is not None and verdict.parity.unused:
        return replace(verdict, since_golden=sentence, ending=Ending.UNUSED_ALLOWANCE)
    return replace(verdict, since_golden=sentence, ending=None, moved="nobody", detail="")


def _graph(verdict: Verdict, recorded: Mapping[str, str]) -> tuple[_Graph, str]:
    """Whether the ruler's graph is the golden's, and the words for it."""
    if not recorded:
        return "unknown", "the golden records no graph"
    if not verdict.proofs:
        return "unknown", "this run's graph is not known"
    now = {each.part: each.digests[0] for each in verdict.proofs}
    untold = [part for part, digest in now.items() if not digest]
    moved = [part for part in {**recorded, **now} if part not in untold and now.get(part) != recorded.get(part)]
    if moved:
        return "moved", f"the graph moved ({', '.join(moved)})"
    if untold:
        return "unknown", f"whether the graph moved cannot be told ({', '.join(untold)} holds what is equal to nothing)"
    return "stayed", "the graph did not"


def _changes(before: Environment, after: Environment) -> dict[str, str]:
    """What of the environment changed -> how; the commit is no part of the toolchain."""
    old, new = asdict(before), asdict(after)
    return {name: f"{name} {old[name]} -> {new[name]}" for name in new if name != "commit" and old[name] != new[name]}


def _sentence(graph: _Graph, graphs: str, changes: Mapping[str, str]) -> str:
    toolchain = f"the toolchain moved ({', '.join(changes.values())})"
    match graph, bool(changes):
        case "stayed", True:
            return f"{toolchain}, {graphs}"
        case "stayed", False:
            return "neither the graph nor the toolchain moved"
        case _, True:
            return f"{graphs}; {toolchain}"
    return graphs if graph == "moved" else f"{graphs}; the toolchain did not move"


def _compilers(verdict: Verdict, accepted: Accepted, changes: Mapping[str, str]) -> bool:
    """Whether nothing but another compiler can have moved the values, given that the ruler's graph stayed."""
    same = verdict.rung in (Rung.PROVED, Rung.BITWISE) or all(each.proved for each in verdict.proofs)
    compared = all(drift.compared for drift in verdict.drift)
    newer = any(name in changes for name in COMPILERS) and not any(name in changes for name in ABOUT_THE_RUN)
    return verdict.rung is not Rung.DIVERGED and same and compared and newer and accepted.rounded
