"""A folder with scenarios, goldens, a user's package and a cache, and `harness run` in it, in workers without JAX."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness.cache import Request, planned
from harness.cache.code import code_of
from harness.cli import obeyed
from harness.discover import discover, expand
from harness.runner import Work

WORK = '''
"""What a worker of these tests does."""
import os
from pathlib import Path

import yaml

from harness.cache.traced import noted
from harness.discover import discover
from harness.proof import Proven
from harness.verdict import Rung, Verdict

HERE = Path(__file__).parent


def steady(ticket, goldens, notes):
    return noted(judge, ticket, goldens, notes)


def judge(ticket, goldens, pending):
    discover(Path(ticket.folder))
    with (Path(os.environ["LOG"]) / "ran").open("a") as log:
        log.write(ticket.case + "\\n")
    preset = yaml.safe_load((HERE / "preset.yml").read_text())
    mood = (Path(os.environ["LOG"]) / "mood").read_text()
    if mood == "edits":
        (HERE / "work.py").write_text((HERE / "work.py").read_text() + "# now\\n")
    rung = Rung.DIVERGED if ticket.label == "bad" else Rung.BITWISE if mood == "slips" else Rung.PROVED
    proof = Proven(part="f/f", equal=1, outputs=1, operations=(1, 1), rewrites={}, parting="", marks=(), seconds=0.1,
                   digests=(f"a{preset['graph']}:b",) * 2)
    about = {"case": ticket.case, "scenario": ticket.scenario, "sides": ticket.sides}
    return Verdict(**about, rung=rung, proofs=(proof,), seconds=1.0)
'''

SCENARIO = """
from harness.scenario import Scenario
SCENARIO = Scenario(why="a test", program="forward", matrix={f"case{n}": {"n": n} for n in range(11)}, seconds=30.0)
"""

COUNT = 11


class Place:
    """A folder with scenarios, goldens, a user's package and a cache, and the command run in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.package = root, root / "mine"
        for name in ("scenarios", "goldens", "mine"):
            (root / name).mkdir()
        (self.package / "__init__.py").touch()
        self.write("mine/work.py", WORK)
        self.write("mine/preset.yml", "graph: 1\n")
        self.write("scenarios/many.py", SCENARIO)
        self.write("mood", "steady")

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def run(self, *words: str) -> int:
        self.write("ran", "")
        time.sleep(0.05)  # what changed at the very moment a run begins is taken for changed during it
        places = ["--scenarios", str(self.root / "scenarios"), "--goldens", str(self.root / "goldens")]
        return obeyed(["run", *places, "--jobs", "1", "--json", str(self.root / "report.json"), *words])

    @property
    def ran(self) -> list[str]:
        return (self.root / "ran").read_text().splitlines()

    @property
    def report(self) -> dict:
        return json.loads((self.root / "report.json").read_text())

    @property
    def entries(self) -> list[Path]:
        return sorted((self.root / "cache" / "verdicts").glob("*.json"))

    def fit(self, **fields: object) -> int:
        """How many cases a run would not have to run, with these fields laid over every scenario's."""
        found = discover(self.root / "scenarios")
        scenarios = {name: replace(scenario, **fields) for name, scenario in found.items()}
        tickets = [
            ticket
            for name, scenario in scenarios.items()
            for ticket in expand(name, scenario, folder=str(self.root / "scenarios"))
        ]
        request = Request(
            how="reuse", goldens=self.root / "goldens", folder=self.root / "cache" / "verdicts", begun=0.0, seed=1
        )
        return len(planned(tickets, scenarios, request).fit)


HARNESS = str(Path(harness.__file__).parent)
once = functools.cache(code_of)


def enter(patch: pytest.MonkeyPatch, root: Path) -> Place:
    # The harness itself is read once: nobody edits it here, and it is the slowest to read.
    patch.setattr("harness.cache.reuse.code_of", lambda each: once(each) if each == HARNESS else code_of(each))
    patch.setenv("HARNESS_CACHE", str(root / "cache"))
    patch.setenv("LOG", str(root))
    patch.delenv("CI", raising=False)
    patch.syspath_prepend(root)
    patch.setattr("harness.cli.run.Work", functools.partial(Work, function="mine.work:steady", preload=()))
    return Place(root)


def all_known(root: Path) -> Iterator[Place]:
    """A place whose verdicts are all known, for a fixture."""
    with pytest.MonkeyPatch.context() as patch:
        place = enter(patch, root)
        assert place.run() == 0
        assert len(place.entries) == len(place.ran) == COUNT
        yield place
