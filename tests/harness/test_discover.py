"""Scenario files are found, loaded, refused with a cure, and expanded into every case."""

from __future__ import annotations

import pytest

from harness.discover import DiscoveryError, Ticket, discover, expand, runs_of, settings_of
from harness.scenario import Run, Scenario

TEXT = """
from harness import Scenario
SCENARIO = Scenario(why="{why}", program="forward")
"""

MATRIX = {"small": {"width": 3}, "large": {"width": 70, "steps": 2}}
PARITY = Scenario(
    why="both must agree",
    program="train",
    settings={"width": 5, "rows": 4},
    matrix=MATRIX,
    sides=(("linen", "nnx"), ("nnx", "bridged")),
    quick=("small",),
    seconds=42.0,
    gibibytes=1.5,
)
RELATION = Scenario(
    why="tiled and whole agree",
    program="whole",
    relation=(("tiled", {"tiles": 3}), ("streamed", {})),
    sides=(("linen", "nnx"), ("nnx", "bridged")),
    pair="my.pairs:ONE",
)


def write(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_every_file_is_a_scenario_by_its_stem(tmp_path):
    write(tmp_path, resume=TEXT.format(why="b"), forward=TEXT.format(why="a"), _shared="raise OSError")
    write(tmp_path, __init__="'''Scenarios.'''")
    (tmp_path / "notes.txt").write_text("no scenario")
    (tmp_path / "old").mkdir()
    write(tmp_path / "old", train="raise OSError")
    found = discover(tmp_path)
    assert {name: scenario.why for name, scenario in found.items()} == {"forward": "a", "resume": "b"}
    assert list(found) == ["forward", "resume"]


def test_a_folder_without_scenarios_has_none_and_a_missing_one_is_an_error(tmp_path):
    assert discover(tmp_path) == {}
    missing = tmp_path / "gone"
    with pytest.raises(DiscoveryError, match="gone is not a folder: name the folder that holds the scenario files"):
        discover(missing)
    write(tmp_path, train=TEXT)
    with pytest.raises(DiscoveryError, match="is not a folder"):
        discover(tmp_path / "train.py")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 3", "odd.py has no SCENARIO = Scenario(...): it holds NoneType"),
        ("SCENARIO = {'why': 'x'}", "odd.py has no SCENARIO = Scenario(...): it holds dict"),
        ("import nowhere_to_be_found", "odd.py cannot be imported: ModuleNotFoundError: No module named 'nowhere_to"),
        ("def broken(:", "odd.py cannot be imported: SyntaxError: "),
        ("SCENARIO = 1 / 0", "odd.py cannot be imported: ZeroDivisionError: division by zero"),
        ("from harness import Scenario\nSCENARIO = Scenario(why='x')", "TypeError: Scenario.__init__() missing 1"),
        (
            "from harness import Allowance\nAllowance(pattern='*', because='')",
            "ValueError: allowance for '*' has no reason",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(tmp_path, text, sentence):
    write(tmp_path, good=TEXT, odd=text)
    with pytest.raises(DiscoveryError) as caught:
        discover(tmp_path)
    assert str(tmp_path / "odd.py") in str(caught.value)
    assert sentence in str(caught.value)


def test_a_file_that_was_changed_is_read_again(tmp_path):
    write(tmp_path, forward=TEXT.format(why="before"))
    assert discover(tmp_path)["forward"].why == "before"
    write(tmp_path, forward=TEXT.format(why="after, and longer"))
    assert discover(tmp_path)["forward"].why == "after, and longer"


def test_a_parity_is_a_case_for_each_label_and_pair_of_sides():
    tickets = expand("train", PARITY, folder="/scenarios")
    assert [(t.case, t.label, t.sides, t.quick) for t in tickets] == [
        ("train[small,linen:nnx]", "small", ("linen", "nnx"), True),
        ("train[small,nnx:bridged]", "small", ("nnx", "bridged"), True),
        ("train[large,linen:nnx]", "large", ("linen", "nnx"), False),
        ("train[large,nnx:bridged]", "large", ("nnx", "bridged"), False),
    ]
    assert {(t.scenario, t.pair, t.folder, t.seconds, t.gibibytes, t.relation) for t in tickets} == {
        ("train", "impl", "/scenarios", 42.0, 1.5, -1)
    }


def test_a_relation_is_a_case_for_each_side_and_second_run():
    tickets = expand("tiles", RELATION)
    assert [(t.case, t.sides, t.relation) for t in tickets] == [
        ("tiles[default,linen:tiled(tiles=3)]", ("linen", "linen"), 0),
        ("tiles[default,linen:streamed]", ("linen", "linen"), 1),
        ("tiles[default,nnx:tiled(tiles=3)]", ("nnx", "nnx"), 0),
        ("tiles[default,nnx:streamed]", ("nnx", "nnx"), 1),
        ("tiles[default,bridged:tiled(tiles=3)]", ("bridged", "bridged"), 0),
        ("tiles[default,bridged:streamed]", ("bridged", "bridged"), 1),
    ]
    assert all(t.quick and t.pair == "my.pairs:ONE" and t.folder == "" for t in tickets)


def test_a_pair_given_by_hand_goes_before_the_scenarios_own():
    assert {t.pair for t in expand("tiles", RELATION, pair="other:PAIR")} == {"other:PAIR"}
    assert {t.pair for t in expand("tiles", RELATION, pair="")} == {"my.pairs:ONE"}


def test_cases_of_one_scenario_have_names_of_their_own():
    twice = Scenario(why="w", program="whole", relation=(("tiled", {"tiles": 2}), ("tiled", {"tiles": 3})))
    cases = [ticket.case for ticket in expand("tiles", twice)]
    assert len(set(cases)) == len(cases) == 4


def test_a_quick_label_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="tiny"):
        expand("train", Scenario(why="w", program="train", matrix=MATRIX, quick=("tiny",)))


def test_a_cells_settings_lie_over_the_scenarios():
    assert settings_of(PARITY, "small") == {"width": 3, "rows": 4}
    assert settings_of(PARITY, "large") == {"width": 70, "rows": 4, "steps": 2}
    assert settings_of(RELATION, "default") == {}
    assert PARITY.settings == {"width": 5, "rows": 4}
    assert PARITY.matrix == {"small": {"width": 3}, "large": {"width": 70, "steps": 2}}


def ticket_of(scenario: Scenario, number: int) -> Ticket:
    return expand("s", scenario)[number]


def test_the_runs_of_a_ticket():
    assert runs_of(PARITY, ticket_of(PARITY, 3)) == (
        Run(side="nnx", program="train"),
        Run(side="bridged", program="train"),
    )
    left, right = runs_of(RELATION, ticket_of(RELATION, 2))
    assert left == Run(side="nnx", program="whole")
    assert right == Run(side="nnx", program="tiled", settings={"tiles": 3})
    assert (left.label, right.label) == ("nnx:whole", "nnx:tiled(tiles=3)")
    assert runs_of(RELATION, ticket_of(RELATION, 3))[1] == Run(side="nnx", program="streamed")
