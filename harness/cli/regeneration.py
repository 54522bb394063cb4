"""From a run of a scenario's full matrix to the candidate of its golden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.cli.catalogue import Catalogue, tickets
from harness.golden.acceptance import GoldenError, candidate
from harness.golden.document import Document
from harness.golden.store import read_document
from harness.prepare import prepare
from harness.registry import load_pair
from harness.report.record import reached
from harness.report.words import why
from harness.runner.dropped import collect
from harness.verdict import Ending, Rung, Verdict

__all__ = ["current", "ready", "refusals"]

ABOUT_THE_GOLDEN = (Ending.MISSING_GOLDEN, Ending.STALE_GOLDEN, Ending.TAMPERED_GOLDEN, Ending.DRIFTED, None)
"""Endings that a new golden would mend, and none at all."""


def current(catalogue: Catalogue, name: str) -> dict[str, str]:
    """Golden key -> case digest of every case that the scenario has today. Draws weights and inputs."""
    return {golden: digest for _, golden, digest in _cases(catalogue, name)}


def _cases(catalogue: Catalogue, name: str) -> list[tuple[str, str, str]]:
    """Name, golden key and digest of every case; weights and inputs are dropped at once."""
    scenario = catalogue.scenarios[name]
    pair = load_pair(catalogue.pair or scenario.pair)
    cases = (prepare(pair, scenario, ticket) for ticket in tickets(catalogue, [name]))
    return [(case.name, case.golden, case.digest) for case in cases]


def refusals(verdicts: Sequence[Verdict]) -> list[str]:
    """One line for each case that forbids a new golden, because its parity does not hold."""
    return [
        f"{verdict.case}: {reached(verdict)}. {why(verdict)}"
        for verdict in verdicts
        if verdict.ending not in ABOUT_THE_GOLDEN or verdict.rung in (None, Rung.DIVERGED)
    ]


def ready(catalogue: Catalogue, name: str, dropped: Path, verdicts: Sequence[Verdict]) -> Path:
    """Writes the candidate of a scenario from what its workers dropped and returns its header.

    verdicts: of the scenario's cases; they know what the ruler compiled. Accepted cases that were not run again are
    carried over where their digest is still the current one.
    Raises GoldenError if nothing was dropped, something that today's scenario does not have, or if the ruler compiled
    two graphs for one golden.
    """
    cases = _cases(catalogue, name)
    digests, fresh = {golden: digest for _, golden, digest in cases}, collect(dropped, name)
    if not fresh:
        raise GoldenError(f"no worker left an observation of scenario {name!r}: nothing can become its golden")
    if foreign := [key for key, case in fresh.items() if digests.get(key) != case.digest]:
        keys = ", ".join(foreign)
        raise GoldenError(
            f"scenario {name!r} is not the one that was run (cases {keys}): was it edited meanwhile, or are its "
            "weights drawn differently each time? Run regenerate again"
        )
    accepted = read_document(catalogue.goldens, name)
    kept: Mapping = accepted.cases if isinstance(accepted, Document) else {}
    carried = {key: case for key, case in kept.items() if digests.get(key) == case.digest}
    graphs = _graphs({case: golden for case, golden, _ in cases}, verdicts)
    drawn = {key: replace(case, graphs=graphs.get(key, {})) for key, case in fresh.items()}
    return candidate(catalogue.goldens, Document(scenario=name, cases={**carried, **drawn}))[0]


def _graphs(keys: Mapping[str, str], verdicts: Sequence[Verdict]) -> dict[str, dict[str, str]]:
    """Golden key -> part of the program -> digest of what the ruler compiled. `keys`: case -> golden key."""
    found: dict[str, dict[str, str]] = {}
    for verdict in verdicts:
        graphs = found.setdefault(keys[verdict.case], {})
        for proof in verdict.proofs:
            if proof.digests[0] and graphs.setdefault(proof.part, proof.digests[0]) != proof.digests[0]:
                raise GoldenError(
                    f"{verdict.case}: the ruler compiled {proof.part} to another graph ({proof.digests[0]}) than for "
                    f"another case of the same golden ({graphs[proof.part]}): make what it compiles depend on its "
                    "settings alone"
                )
    return found
