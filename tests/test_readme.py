"""The README is run: cheap blocks of shell in a folder of their own, the two expensive ones by .ci/run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

from harness.cli import COMMANDS, obeyed
from tests.test_house import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

EXPENSIVE = {
    "pip install -e . && harness run --scenario all": "minutes, and an installation: .ci/run runs this very line",
    'pip install -e ".[dev]" && pytest -n auto': "it would start this test again: .ci/run runs this very line",
}
"""Lines that are not run here -> why, and who does."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block. `after`: the shell block right before a block of text, with nothing in between."""

    language: str
    text: str
    after: str


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    end = 0
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        close = found and found[-1].language == "bash" and not page[end : match.start()].strip()
        found.append(Block(language=match[1], text=match[2], after=found[-1].text if close else ""))
        end = match.end()
    return found


BLOCKS = blocks(README)
SHELL = [block.text for block in BLOCKS if block.language == "bash"]
SHOWN = [block for block in BLOCKS if block.language == "text"]
RECORDED = (ROOT / "reports" / "diverged.txt").read_text(encoding="utf-8")


def names(texts):
    return [text.splitlines()[0][:60] for text in texts]


@pytest.fixture(scope="session")
def shell(tmp_path_factory):
    """Runs a shell block as a user would who has installed the package, in a folder with a copy of the examples."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    tool = folder / "bin" / "harness"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m harness.cli "$@"\n', encoding="utf-8")
    tool.chmod(0o755)
    path = os.pathsep.join([str(tool.parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done: dict[str, subprocess.CompletedProcess] = {}

    def run(text):
        if text not in done:
            command = ["bash", "-e", "-o", "pipefail", "-c", text]
            done[text] = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=540, check=False
            )
        return done[text]

    return run


def masked(text):
    """Lines without what differs from run to run: numbers, and the padding and rules of tables that follow them."""
    return [re.sub(r"-{2,}| +", " ", re.sub(r"\d[\w.]*", "#", line)).strip() for line in text.splitlines()]


def not_in_order(shown, came):
    """Lines of `shown` that do not come in this order in `came`; "..." stands for any number of lines."""
    lines = iter(came)
    return [line for line in shown if line != "..." and not any(line == other for other in lines)]


def test_every_block_is_of_a_kind_that_is_run_or_compared():
    assert {block.language for block in BLOCKS} == {"bash", "text"}


@pytest.mark.parametrize("text", SHELL, ids=names(SHELL))
def test_a_shell_block_does_what_it_says(text, shell, capsys):
    if text.strip() in EXPENSIVE:
        with capsys.disabled():
            print(f"\nnot run here: {text.strip()}: {EXPENSIVE[text.strip()]}")
        assert f"'{text.strip()}'" in CI
        return
    done = shell(text)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", SHOWN, ids=names([block.after or "recorded" for block in SHOWN]))
def test_a_shown_output_came_out(block, shell):
    """Of the command right before it, run now; or else of the run that reports/diverged.txt recorded."""
    if block.after:
        assert not_in_order(masked(block.text), masked(shell(block.after).stdout)) == []
    else:
        assert not_in_order(block.text.splitlines(), RECORDED.splitlines()) == []


def test_the_expensive_lines_stand_in_the_readme():
    assert [line for line in EXPENSIVE if f"{line}\n" not in SHELL] == []


def test_every_command_is_explained_and_every_explained_command_exists(capsys):
    assert obeyed(["--help"]) == 0
    known = set(re.findall(r"^    (\w+)(?: |$)", capsys.readouterr().out, re.MULTILINE)) - {"COMMAND"}
    assert len(known) >= len(COMMANDS)
    assert set(re.findall(r"`harness (\w+)", README)) == known


def test_links_to_files_lead_somewhere():
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize(
    ("page", "kinds"),
    [
        ("```bash\na\n```\n\n```text\nb\n```\n", [("bash", ""), ("text", "a\n")]),
        ("```bash\na\n```\nso\n```text\nb\n```\n", [("bash", ""), ("text", "")]),
    ],
)
def test_blocks_are_found(page, kinds):
    assert [(block.language, block.after) for block in blocks(page)] == kinds


def test_masking_keeps_words_and_drops_numbers():
    assert masked("train[a]  BITWISE    0.4\n-----  ---") == ["train[a] BITWISE #", ""]


def test_order_matters_in_what_is_shown():
    assert not_in_order(["a", "...", "c"], ["a", "b", "c"]) == []
    assert not_in_order(["c", "a"], ["a", "b", "c"]) == ["a"]
