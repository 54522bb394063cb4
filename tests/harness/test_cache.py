"""What a verdict rests on: each of it, once changed, makes the case run again, and nothing else does."""

from __future__ import annotations

import json

import pytest

from tests.harness.cached_place import COUNT, SCENARIO, WORK, all_known


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A place whose verdicts are all known. Tests leave it as it was."""
    yield from all_known(tmp_path_factory.mktemp("known"))


CHANGES = {
    "a golden comes": ("goldens/many.json", "{}"),
    "a preset": ("mine/preset.yml", "graph: 2\n"),
    "a file that no import names": ("mine/data.bin", "x"),
    "the user's code": ("mine/work.py", WORK.replace("Rung.DIVERGED if", "Rung.ALLOWED if")),
    "a value in it": ("mine/work.py", WORK.replace("seconds=1.0", "seconds=2.0")),
    "the scenario's settings": ("scenarios/many.py", SCENARIO.replace('{"n": n}', '{"n": n + 1}')),
    "its code": ("scenarios/many.py", SCENARIO + "\nUNUSED = 1\n"),
}
HARMLESS = {
    "a comment": ("mine/work.py", "# said\n" + WORK),
    "a docstring": ("mine/work.py", WORK.replace("What a worker of these tests does.", "Work.")),
    "formatting": ("mine/work.py", WORK.replace("seconds=0.1,\n", "\n        seconds=0.1,")),
    "another scenario": ("scenarios/z.py", SCENARIO.replace("range(11)", "()")),
    "what Python writes": ("mine/__pycache__/x.pyc", "x"),
}


def with_change(place, change):
    name, text = change
    path = place.root / name
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    try:
        return place.fit()
    finally:
        path.unlink() if before is None else path.write_bytes(before)


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_verdict_rests_on_makes_it_run_again(known, what):
    assert with_change(known, CHANGES[what]) == 0
    assert known.fit() == COUNT


@pytest.mark.parametrize("what", HARMLESS)
def test_what_changes_no_number_does_not(known, what):
    assert with_change(known, HARMLESS[what]) == COUNT


@pytest.mark.parametrize(
    ("name", "value", "fit"),
    [
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true", 0),
        ("JAX_ENABLE_X64", "1", 0),
        ("NVIDIA_TF32_OVERRIDE", "1", 0),
        ("JAX_COMPILATION_CACHE_DIR", "/elsewhere", COUNT),
        ("EDITOR", "ed", COUNT),
    ],
)
def test_variables_that_change_numbers_count(known, monkeypatch, name, value, fit):
    monkeypatch.setenv(name, value)
    assert known.fit() == fit


@pytest.mark.parametrize("fields", [{"settings": {"width": 7}}, {"seed": 5}, {"seconds": 31.0}, {"program": "grad"}])
def test_a_scenario_that_comes_out_otherwise_counts_whatever_its_file_says(known, fields):
    assert known.fit(**fields) == 0


def test_a_changed_golden_counts_also_where_only_its_body_did(known):
    assert with_change(known, ("goldens/many.npz", "PK")) == 0


@pytest.mark.parametrize(
    "spoil", [lambda text: text[:-30], lambda text: "[]", lambda text: text.replace("PROVED", "SOLVED")]
)
def test_an_entry_that_cannot_be_read_counts_for_nothing_and_is_replaced(known, spoil):
    path = known.entries[0]
    before = path.read_text()
    path.write_text(spoil(before))
    assert known.fit() == COUNT - 1
    assert known.run() == 0
    assert len(known.ran) == 1 + 1  # and one audit, of ten
    assert json.loads(path.read_text())["case"] == json.loads(before)["case"]
    assert known.fit() == COUNT
