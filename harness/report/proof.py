"""Proofs on paper: what was proved, with what, and where two computations part."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from harness.proof import Divergence, Marked, Origin, Place, Proof

__all__ = ["divergence_text", "marks_text", "proof_data", "proof_text"]

MOST = 5
"""Places that are told in full."""


def proof_text(title: str, sides: tuple[str, str], proof: Proof) -> str:
    """A proof as text for a terminal. `title` says what was compared."""
    head = "PROVED" if proof.proved else "NOT PROVED"
    lines = [f"{title}: {head}, {len(proof.equal)} of {proof.outputs} outputs are equal for all inputs"]
    lines += [f"  {line}" for line in _details(sides, proof)]
    return "\n".join(lines)


def _details(sides: tuple[str, str], proof: Proof) -> Iterator[str]:
    counts = f"{proof.operations[0]} and {proof.operations[1]} operations, {proof.nodes} values, {proof.rounds} rounds"
    yield f"{counts}, {proof.seconds:.2f} s"
    if not proof.outputs:
        yield "neither program has any output: nothing was compared"
    versions = [f"jax {toolchain.get('jax', 'unknown')}" for toolchain in proof.toolchains]
    if versions[0] != versions[1]:
        yield f"lowered by different versions: {sides[0]} by {versions[0]}, {sides[1]} by {versions[1]}"
    if proof.rewrites:
        yield "rewrites: " + ", ".join(f"{name} {count}x" for name, count in proof.rewrites.items())
    for side, names in zip(sides, proof.inputs, strict=True):
        if names:
            yield f"only {side} takes: {_listed(names)}"
    for side, names in zip(sides, (proof.left_only, proof.right_only), strict=True):
        if names:
            yield f"only {side} returns: {_listed(names)}"
    yield from _unequal(sides, proof.unequal)
    marks = marks_text(sides, proof)
    yield from marks[:MOST]
    if len(marks) > MOST:
        yield f"and {len(marks) - MOST} more sharding constraints or remat barriers"


def _unequal(sides: tuple[str, str], unequal: Mapping[str, Divergence]) -> Iterator[str]:
    """Outputs that part at the same place are told together."""
    together: dict[str, list[str]] = {}
    for name, divergence in unequal.items():
        together.setdefault(divergence_text(sides, divergence), []).append(name)
    for where, names in list(together.items())[:MOST]:
        yield f"not equal: {_listed(names)}"
        yield from textwrap.indent(where, "  ").splitlines()
    if len(together) > MOST:
        yield f"and {len(together) - MOST} more places"


def divergence_text(sides: tuple[str, str], divergence: Divergence) -> str:
    """Where two computations first part, one line for each side."""
    return "\n".join(
        f"{side}: {_origin(origins)}" for side, origins in zip(sides, (divergence.left, divergence.right), strict=True)
    )


def _origin(origins: Sequence[Origin]) -> str:
    if not origins:
        return "nothing that the other lacks; its carried values, inputs or their order differ"
    first = origins[0]
    path = f" ({first.place.path})" if first.place.path else ""
    return f"{first.op}({', '.join(first.operands)}) -> {first.type} at {_where(first.place)}{path}"


def _where(place: Place) -> str:
    if not place.file:
        return "an unknown line"
    file = Path(place.file)
    return f"{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}:{place.line}"


def marks_text(sides: tuple[str, str], proof: Proof) -> tuple[str, ...]:
    """One line for each sharding constraint or remat barrier that only one side lays on a value of both."""
    kinds = (("sharding constraint", proof.constraints), ("remat barrier", proof.barriers))
    return tuple(_marked(sides, kind, mark) for kind, marks in kinds for mark in marks)


def _marked(sides: tuple[str, str], kind: str, mark: Marked) -> str:
    instead = f", {sides[1 - mark.program]} has {mark.instead}" if mark.instead else ""
    text = f" {mark.text}" if mark.text else ""
    return f"{kind} only on {sides[mark.program]}: {mark.type}{text} at {_where(mark.place)}{instead}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def proof_data(proof: Proof) -> dict[str, object]:
    """A proof as JSON can hold it."""
    return {"proved": proof.proved, "outputs": proof.outputs, **asdict(proof)}
