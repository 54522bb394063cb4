"""Reports say what was reached and what to do; JSON and JUnit can be read by others' parsers."""

from __future__ import annotations

import dataclasses
import json

import junitparser
import pytest

from harness.observation import Attestation
from harness.report import Report, ReportError, check_target, junit, machine, markdown, may_flip, table, write
from harness.report.record import counts, flip_sentence, reached
from harness.report.words import why
from harness.verdict import Ending, Rung, Verdict
from harness.verdict_json import from_json
from tests.harness.fake_cases import ENVIRONMENT, diverged, good

TIMEOUT = Verdict(
    case="slow[a|b,linen:nnx]", scenario="slow", sides=("linen", "nnx"), ending=Ending.TIMEOUT,
    detail="still running after its 7 s", seconds=7.0,
)  # fmt: skip
SKIPPED = dataclasses.replace(TIMEOUT, case="tpu[x,linen:nnx]", ending=Ending.SKIPPED, detail="needs a TPU")
DRIFTED = dataclasses.replace(good("old[x,linen:nnx]"), ending=Ending.DRIFTED, moved="both together")


def report(*verdicts: Verdict, left_out: tuple[str, ...] = ()) -> Report:
    return Report(
        verdicts=verdicts,
        environment=ENVIRONMENT,
        command="harness run --scenario fake",
        started="2026-11-20T11:48:03+00:00",
        seconds=130.5,
        left_out=left_out,
    )


EVERY = report(good("a[x,linen:nnx]"), diverged("b[y,linen:nnx]"), TIMEOUT, SKIPPED, DRIFTED)


def test_the_flag_may_be_flipped_only_if_every_case_passed():
    assert may_flip(report(good("a"), good("b")))
    for bad in (diverged("b"), TIMEOUT, SKIPPED, DRIFTED):
        assert not may_flip(report(good("a"), bad))
        assert flip_sentence(report(good("a"), bad)) == "The flag may not be flipped: 1 of 2 cases failed."
    assert not may_flip(report())
    assert flip_sentence(report()) == "The flag may not be flipped: no case was run."


def test_a_part_of_the_cases_does_not_decide_for_the_whole():
    assert flip_sentence(report(good("a"))) == "The flag may be flipped."
    sentence = flip_sentence(report(good("a"), left_out=("3 of 4 scenarios", "2 of 9 cases")))
    assert sentence.endswith("as far as this run looked. It left out: 3 of 4 scenarios; 2 of 9 cases.")


def test_endings_are_never_folded_into_a_rung():
    assert dict(counts(EVERY)) == {
        "BITWISE": 1,
        "DIVERGED": 1,
        "BITWISE, but DRIFTED FROM GOLDEN": 1,
        "SKIPPED": 1,
        "TIMEOUT": 1,
    }
    assert reached(dataclasses.replace(TIMEOUT, ending=None)) == "NOTHING COMPARED"


def test_the_table_names_the_case_the_place_both_values_and_the_decision():
    text = table(EVERY)
    row = next(line for line in text.splitlines() if line.startswith("b[y,linen:nnx]"))
    assert row.split(None, 3)[:3] == ["b[y,linen:nnx]", "linen:nnx", "DIVERGED"]
    assert "gradients/decoder/layers/1/mlp/wi/kernel: abs 0.001, rel inf, 4096 ulp" in row
    words = " ".join(text.split())
    assert "First divergence in decoder/layers/1/mlp: gradients/" in words
    assert "at [2, 5]: 0.125 and 0.126" in words
    assert "Moved: nnx." in words
    assert "slow[a|b,linen:nnx]: TIMEOUT Still running after its 7 s. Cure: raise `seconds`" in words
    assert "5 cases in 2 min 10 s" in words
    assert "Attested on linen: my.linen.Block" in words
    assert text.endswith("The flag may not be flipped: 4 of 5 cases failed.\n")


def test_cases_that_failed_alike_share_a_paragraph():
    text = table(report(TIMEOUT, dataclasses.replace(TIMEOUT, case="slow[c,linen:nnx]")))
    assert text.count("Still running") == 1
    assert "slow[a|b,linen:nnx], slow[c,linen:nnx]: TIMEOUT" in text
    many = table(report(*(dataclasses.replace(TIMEOUT, case=f"case{number}") for number in range(7))))
    assert "\ncase0, case1, case2 and 4 more: TIMEOUT\n" in many


def test_a_cure_is_not_told_twice():
    detail = "there is no golden: run `harness golden regenerate --scenario s`"
    missing = dataclasses.replace(good("a"), ending=Ending.MISSING_GOLDEN, detail=detail)
    assert why(missing).count("harness golden regenerate") == 1
    assert why(dataclasses.replace(missing, detail="")).count("harness golden regenerate") == 1


def test_markdown_keeps_its_cells_and_puts_the_decision_first():
    bad = dataclasses.replace(TIMEOUT, detail="saw <script> and *stars*", not_compared={"graph": "no lowering"})
    text = markdown(report(good("a"), bad))
    assert text.splitlines()[2] == "**The flag may not be flipped: 1 of 2 cases failed.**"
    assert "| slow[a\\|b,linen:nnx] | linen:nnx | TIMEOUT |" in text
    assert "Saw &lt;script> and \\*stars\\*." in text
    assert "- Not compared in 1 case: graph (no lowering)" in text
    assert "- 1 case: not PROVED: no graph proof was attempted" in text
    assert "- jaxlib: 0.10.2" in text


def test_json_holds_the_whole_and_no_bare_infinity():
    text = machine(EVERY)
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (content["version"], content["may_flip"]) == (1, False)
    assert content["summary"]["cases"] == 5
    assert content["summary"]["attested"] == {"linen": ["my.linen.Block"], "nnx": ["my.nnx.Block"]}
    assert [case["name"] for case in content["scenarios"]] == [verdict.case for verdict in EVERY.verdicts]
    assert [case["passed"] for case in content["scenarios"]] == [True, False, False, False, False]
    bad = content["scenarios"][1]
    counted = {"expected": 7, "compared": 6, "missing": 1, "extra": 0, "differing": 1}
    assert bad["channels"] == {"gradients": counted}
    assert bad["first_divergence"]["max_rel"] == "inf"
    assert bad["first_divergence"]["where"] == [2, 5]
    assert content["scenarios"][2]["first_divergence"] is None
    assert tuple(from_json(case["verdict"]) for case in content["scenarios"]) == EVERY.verdicts


def test_junit_tells_failures_errors_and_skips_apart():
    found = junitparser.JUnitXml.fromstring(junit(EVERY))
    assert (found.tests, found.failures, found.errors, found.skipped) == (5, 2, 1, 1)
    results = {case.name: [type(result).__name__ for result in case.result] for suite in found for case in suite}
    assert results == {
        "a[x,linen:nnx]": [],
        "b[y,linen:nnx]": ["Failure"],
        "old[x,linen:nnx]": ["Failure"],
        "slow[a|b,linen:nnx]": ["Error"],
        "tpu[x,linen:nnx]": ["Skipped"],
    }
    assert found.time == pytest.approx(sum(verdict.seconds for verdict in EVERY.verdicts))


def test_junit_survives_the_last_words_of_a_dying_worker():
    bad = dataclasses.replace(TIMEOUT, detail="\x1b[31mred\x00 & <raw> \ud800")
    (suite,) = junitparser.JUnitXml.fromstring(junit(report(bad)))
    (case,) = suite
    assert "?[31mred? & <raw> ?" in case.result[0].text


def test_attested_classes_are_joined_over_cases():
    more = Attestation(modules={}, own=("my.linen.Attention",), config_digest="c0ffee")
    other = dataclasses.replace(good("b"), attestations={"linen": more})
    assert "Attested on linen: my.linen.Attention, my.linen.Block" in table(report(good("a"), other))


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.md"
    path.write_text("old")
    write(path, "new ± \ud800\n")
    assert path.read_text(encoding="utf-8") == "new ± \\ud800\n"
    with pytest.raises(AttributeError):
        write(path, 17)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["report.md"]


def test_a_target_that_cannot_be_written_is_named_before_the_run(tmp_path):
    with pytest.raises(ReportError, match=r"nowhere does not exist: create it \(mkdir -p"):
        check_target(tmp_path / "nowhere" / "report.md")
    with pytest.raises(ReportError, match="is a folder"):
        check_target(tmp_path)
    check_target(tmp_path / "report.md")
    assert not list(tmp_path.iterdir())


def test_rungs_stand_in_the_order_of_the_ladder():
    allowed = dataclasses.replace(good("c"), rung=Rung.ALLOWED)
    assert list(counts(report(diverged("a"), allowed, good("b")))) == ["BITWISE", "ALLOWED", "DIVERGED"]
