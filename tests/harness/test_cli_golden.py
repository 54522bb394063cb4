"""`harness golden`: the way of a golden, with fake cases in real workers."""

from __future__ import annotations

import json
from pathlib import Path

from harness.cli import obeyed
from tests.harness.fake_cases import use_fake

ROOT = Path(__file__).resolve().parents[2]

FAKE_PAIR = "tests.harness.fake_cases:PAIR"


def test_a_golden_is_regenerated_read_and_accepted(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.chdir(ROOT)
    use_fake(monkeypatch, "fake_drop")
    goldens = tmp_path / "goldens"
    goldens.mkdir()

    def golden(verb: str, scenario: str, *more: str) -> int:
        place = ["--pair", FAKE_PAIR, "--goldens", str(goldens)]
        return obeyed(["golden", verb, "--scenario", scenario, *place, *more])

    assert golden("status", "alpha") == 3
    assert golden("accept", "alpha") == 1
    assert "nothing is pending" in capsys.readouterr().err
    # The label "more" is no failure that the fake knows, so it passes.
    assert golden("regenerate", "alpha", "--jobs", "1") == 0
    assert sorted(path.name for path in (goldens / ".pending").iterdir()) == ["alpha.json", "alpha.npz"]
    capsys.readouterr()
    assert golden("diff", "alpha") == 0
    assert "alpha/more: new, arrays: outputs 1" in capsys.readouterr().out
    assert golden("accept", "alpha") == 0
    assert golden("status", "alpha") == 0
    assert sorted(json.loads((goldens / "alpha.json").read_text())["cases"]) == ["good", "more"]


def test_no_golden_is_regenerated_while_parity_fails(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.chdir(ROOT)
    use_fake(monkeypatch, "fake_drop")
    aside = tmp_path / ".pending"
    aside.mkdir()
    (aside / "beta.json").write_text("a candidate of an earlier day")
    place = ["--pair", FAKE_PAIR, "--goldens", str(tmp_path), "--jobs", "1"]
    assert obeyed(["golden", "regenerate", "--scenario", "all", *place]) == 1
    text = capsys.readouterr()
    assert "beta: refused, because parity fails" in text.err
    assert "beta[diverged,linen:nnx]: DIVERGED. First divergence in" in text.err
    assert sorted(path.name for path in aside.iterdir()) == ["alpha.json", "alpha.npz"]
