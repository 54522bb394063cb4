"""What becomes of mutants: all of a toy's and a few of impl's in real workers, and every way in which one can end."""

from __future__ import annotations

import contextlib
import json
import sys
import time

import pytest

from harness.cli import obeyed
from harness.faults import Catalogue
from harness.faults.catalogue import CATALOGUE
from harness.mutation import Mutant
from harness.mutation.campaign import outcome, tried_out
from harness.mutation.report import as_json, survivors, table
from harness.mutation.sampling import mutants, mutants_of
from harness.mutation.subject import subject
from harness.registry import load_pair
from harness.verdict import Ending, Rung, Verdict
from impl.tiny import family
from tests.harness.toy_pair import PAIR, SIDE

TOY_CATALOGUE = """
from pathlib import Path
from harness.faults import Catalogue
CATALOGUE = Catalogue(root=Path(__file__).parent, pair="toyhouse.pair:TOY", folder="", faults=(), variations=())
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A pair of NumPy whose sides have a folder each, in the working folder."""
    sides = "from toyhouse.linen import side as left\nfrom toyhouse.nnx import side as right"
    (tmp_path / "toymutants.py").write_text(TOY_CATALOGUE)
    for side in ("linen", "nnx"):
        (tmp_path / "toyhouse" / side).mkdir(parents=True)
        (tmp_path / "toyhouse" / side / "side.py").write_text(SIDE)
    (tmp_path / "toyhouse" / "__init__.py").write_text("")
    (tmp_path / "toyhouse" / "pair.py").write_text(PAIR.replace("from toyhouse import left, right", sides))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("toyhouse", "toymutants")]:
        del sys.modules[name]


def selftest(*words: str) -> int:
    return obeyed(["selftest", "--catalogue", "toymutants:CATALOGUE", *words])


def test_all_mutants_of_a_toy_in_real_workers(toy, capsys):
    """What only `taps` does is not run by the scenario, and no graph is offered that could prove anything."""
    assert selftest("--mutate", "toyhouse/nnx", "--json", "out.json", "--jobs", "2") == 1
    report = json.loads((toy / "out.json").read_text())
    assert (toy / "toyhouse" / "nnx" / "side.py").read_text() == SIDE
    assert report["counts"] == {"killed": 2, "survived": 2, "equivalent": 0, "unseen": 0}
    assert report["possible"] == 4
    killed = {each["mutant"]["operator"]: each for each in report["mutants"] if each["status"] == "killed"}
    assert (killed["arithmetic"]["channel"], killed["arithmetic"]["rung"]) == ("outputs", "DIVERGED")
    assert "TypeError" in killed["argument"]["place"] or "IndexError" in killed["argument"]["place"]
    told = capsys.readouterr().out
    assert "4 of 4 possible mutants: 2 killed, 2 survived, 0 equivalent by proof, 0 unseen." in told
    assert "no quick case notices it. toyhouse/nnx/side.py:17: '*' became '/'." in told


def test_code_that_fails_by_itself_stops_the_campaign(toy, capsys):
    path = toy / "toyhouse" / "linen" / "side.py"
    path.write_text(SIDE.replace("np.tanh", "np.sin"))
    assert selftest("--mutate", "toyhouse/nnx", "--jobs", "1") == 2
    assert "toy[default,linen:nnx] fails without a mutant: mend it first. DIVERGED" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--mutate", "toyhouse/nnx/side.py"], "side.py is not a folder"),
        (["--mutate", "toyhouse"], "lies in no package"),
        (["--mutate", ".."], "lies in no package"),
        (["--mutate", "toyhouse/both"], "'both' is none of toy's sides (linen, nnx)"),
        (["--mutate", "toyhouse/linen"], "holds no Python that could be mutated"),
        (["--mutate", "toyhouse/nnx", "--count", "0"], "is not a whole number from 1 on"),
        (["--mutate", "toyhouse/nnx", "--sample", "3"], "leave out --only and --sample"),
        (["--count", "3"], "name a folder with --mutate"),
    ],
)
def test_bad_usage_is_2_before_anything_runs(toy, capsys, words, sentence):
    (toy / "toyhouse" / "both").mkdir()
    (toy / "toyhouse" / "linen" / "side.py").write_text('"""Nothing that runs."""\n')
    (toy / "toyhouse" / "pair.py").write_text(
        PAIR.replace("from toyhouse import left, right", "from toyhouse.nnx import side as right\nleft = right")
    )
    assert selftest(*words) == 2
    assert sentence in capsys.readouterr().err


SCENARIO = """
from harness import Scenario
from impl.tiny import family
SCENARIO = Scenario(why="small", program="forward", matrix={"llama2": {"config": family("llama2")}})
"""


def the(every, file: str, operator: str, line: str) -> Mutant:
    """The first mutant of `operator` in the first line of `file` that is `line`."""
    path = CATALOGUE.root / file
    numbers = [number for number, text in enumerate(path.read_text().splitlines(), start=1) if text.strip() == line]
    found = [each for each in every if (each.file, each.operator) == (file, operator) and each.line in numbers]
    assert found, f"{file} has no {operator} in {line!r}"
    return found[0]


TAKEN = "x = x + attention(self.pre_self_attention_layer_norm(x), positions, segment_ids, mode)"


@pytest.mark.slow
def test_three_mutants_of_impl_for_real(tmp_path, record_property):
    """One that a case kills, one that is proved to change nothing, and one in a branch that no graph takes."""
    start = time.monotonic()
    (tmp_path / "small.py").write_text(SCENARIO)
    what = subject(
        Catalogue(root=CATALOGUE.root, pair="impl", folder=str(tmp_path), faults=(), variations=()),
        CATALOGUE.root / "impl" / "nnx",
    )
    every = mutants(what.root, what.folder)
    chosen = [
        the(every, "impl/nnx/blocks.py", "arithmetic", TAKEN),
        the(every, "impl/nnx/layers.py", "number", "epsilon: float = 1e-6,"),
        the(every, "impl/nnx/attention.py", "number", "return fused[:, :, 0], fused[:, :, 1], fused[:, :, 2]"),
    ]
    settings = {"config": family("llama2")}
    parts = sum(len(offered) for offered in load_pair("impl").sides["nnx"].graphs(settings).values())
    assert parts >= 4
    killed, equal, unseen = tried_out(chosen, what, 2, lambda total: contextlib.nullcontext(lambda event: None))
    seconds = time.monotonic() - start
    record_property("seconds", round(seconds, 1))
    assert (killed.status, killed.case, killed.rung) == ("killed", "small[llama2,linen:nnx]", "DIVERGED")
    assert killed.place == "logits"  # where it shows first: nobody looks for the module of a mutant
    assert killed.detail.startswith("small[llama2], forward/forward: linen: add("), killed.detail
    assert (equal.status, equal.graphs, equal.cases) == ("equivalent", parts, 1)
    assert (unseen.status, unseen.graphs) == ("unseen", parts)
    assert "none of them runs lines" in unseen.detail


def verdict(rung: Rung | None, **more) -> Verdict:
    return Verdict(case="m7 toy[default]", scenario="toy", sides=("linen", "nnx"), rung=rung, seconds=1.5, **more)


@pytest.mark.parametrize(
    ("proofs", "ran", "status"),
    [
        (verdict(Rung.PROVED), [verdict(Rung.BITWISE)], "equivalent"),
        (verdict(Rung.PROVED, not_compared={"graphs": "nowhere"}), [verdict(Rung.BITWISE)], "unseen"),
        (verdict(Rung.BITWISE, why_not_higher="add"), [verdict(Rung.BITWISE), verdict(Rung.ALLOWED)], "survived"),
        (verdict(Rung.DIVERGED, why_not_higher="a constraint"), [verdict(Rung.PROVED)], "survived"),
        (verdict(None, ending=Ending.NOTHING_COMPARED, detail="no graph"), [verdict(Rung.BITWISE)], "survived"),
        (verdict(None, ending=Ending.ERROR, detail="raised"), [verdict(Rung.BITWISE)], "survived"),
        (verdict(Rung.PROVED), [verdict(Rung.BITWISE), verdict(Rung.DIVERGED)], "killed"),
        (verdict(Rung.PROVED), [verdict(None, ending=Ending.TIMEOUT, detail="hung")], "killed"),
        (verdict(Rung.BITWISE), [verdict(Rung.BITWISE, ending=Ending.REFUSED, detail="went elsewhere")], "killed"),
    ],
)
def test_what_becomes_of_a_mutant(proofs, ran, status):
    mutant = mutants_of("a/b.py", "x = a + b\n")[0]
    found = outcome(mutant, proofs, ran)
    assert (found.status, found.cases, found.seconds) == (status, len(ran), 1.5 * (1 + len(ran)))
    assert [each.mutant for each in survivors([found])] == ([mutant] if status == "survived" else [])
    told = table([found], 9)
    assert f"1 of 9 possible mutants: {int(status == 'killed')} killed, {int(status == 'survived')} survived" in told
    assert ("'+' became '-'" in told) == (status in ("survived", "unseen"))
    assert found.detail in told or status == "equivalent" or status == "killed"
    assert as_json([found], "a", 0, 9)["counts"][status] == 1
