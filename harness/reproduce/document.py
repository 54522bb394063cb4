"""The text of a reproduction: what it shows in a header that reads well, the code, and every source it needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.reproduce.closure import Closure
from harness.reproduce.plan import Plan

__all__ = ["document", "imported", "quoted"]

STANDALONE = Path(__file__).with_name("standalone.py")
MARKER = "# ---- below: copied\n"

IMPORTS = """\
from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tempfile
import traceback
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
"""

RULE = "# " + "-" * 110


def document(plan: Plan, needed: Closure) -> str:
    """The whole file. The same plan and closure give the same text."""
    body = STANDALONE.read_text(encoding="utf-8").partition(MARKER)[2]
    top = "\n\n".join((_header(plan, needed), IMPORTS.strip(), "\n".join(_constants(plan, needed))))
    end = 'if __name__ == "__main__":\n    sys.exit(main())'
    return "\n\n\n".join((top, _case(plan), body.strip(), *_sections(needed.sources), end)) + "\n"


def imported(plan: Plan) -> tuple[str, ...]:
    """The modules that the file itself imports; the pair's own first."""
    module, _, attribute = plan.pair.partition(":")
    return (module, *([] if attribute else ["harness.registry"]), "harness.case", "harness.scenario", *plan.imports)


def quoted(content: bytes) -> str:
    """A Python expression that holds `content`, as text that reads like it wherever that gives back every byte.

    Its value is str for UTF-8, else bytes. The first line is empty and is cut off, so that columns are right.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return repr(content)
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"').replace("\r", "\\r").replace("\0", "\\0")
    for opening, inner, closing in (
        ('r"""\n', text, '"""[1:]'),
        ("r'''\n", text, "'''[1:]"),
        ('"""\n', escaped, '"""[1:]'),
    ):
        literal = f"{opening}{inner}{closing}"
        try:
            if ast.literal_eval(literal.removesuffix("[1:]"))[1:] == text:
                return literal
        except (SyntaxError, ValueError):
            continue
    return repr(text)


def _header(plan: Plan, needed: Closure) -> str:
    versions = " ".join(f"{name}=={version}" for name, version in _original(plan, needed).items() if name != "python")
    here = plan.environment
    lines = [
        f"{plan.case}: {plan.described}.",
        *([f"Placed in {plan.module}."] if plan.module else []),
        "",
        "Run it with `python reproduce.py`, case.npz beside it. Exit code 1: the two runs differ; 0: they agree.",
        f"It needs: pip install {versions}",
        "",
        f"What is compared: {' against '.join(f'{run.side}:{run.program}' for run in plan.runs)}, bit by bit.",
        f"Why they must agree: {plan.why}.".replace("..", "."),
        *plan.notes,
        f"Seen with Python {here['python']} on {here['machine']}, {here['device']}, x64 {here['x64']},",
        f"matmul precision {here['matmul_precision']}, prng {here['prng']}, commit {here['commit'] or 'unknown'}.",
        f'Written by: harness reproduce "{plan.case}" --pair {plan.pair}',
        "",
        f"Below: the case, the code that runs and compares it, and the {len(needed.sources)} files that it needs.",
    ]
    return "\n".join(f"# {line}".rstrip() for text in lines for line in text.splitlines() or [""])


def _constants(plan: Plan, needed: Closure) -> Iterator[str]:
    yield f"CASE = {plan.case!r}"
    yield f"DESCRIBED = {plan.described!r}"
    yield f"MODULE = {plan.module!r}"
    yield f"TAPS = {plan.taps!r}  # the program that returns every module's output, if it can tell"
    yield f"LIBRARIES = {needed.libraries!r}"
    yield f"ORIGINAL = {_original(plan, needed)!r}"
    yield f"VARIABLES = {dict(plan.variables)!r}  # of the environment, unless they are set"
    yield f"ALLOWED = {plan.allow!r}  # (pattern, rtol, atol, because)"
    yield f"DTYPES = {dict(plan.dtypes)!r}  # arrays stored as bytes"
    yield "SOURCES = {}  # filled below"


def _original(plan: Plan, needed: Closure) -> dict[str, str]:
    """Versions at the time of writing, of this process's environment, which is the worker's."""
    from harness.environment import version

    return {"python": plan.environment["python"], **{name: version(name) for name in needed.libraries}}


def _case(plan: Plan) -> str:
    module, _, attribute = plan.pair.partition(":")
    pair = f"from {module} import {attribute} as pair" if attribute else "from harness.registry import load_pair"
    given = "pair" if attribute else f"load_pair({plan.pair!r})"
    runs = [f"Run(side={r.side!r}, program={r.program!r}, settings={r.settings})" for r in plan.runs]
    fields = {"name": plan.case, **plan.record}
    lines = [
        "def the_case(weights, inputs):",
        '    """The pair of sides, and what they are run on."""',
        *(f"    import {name}" for name in plan.imports if name != "builtins"),
        f"    {pair}",
        "    from harness.case import Case",
        "    from harness.scenario import Run",
        "",
        f"    settings = {plan.settings}".replace("\n", "\n    "),
        f"    left = {runs[0]}",
        f"    right = {runs[1]}",
        f"    fields = {fields!r}",
        "    case = Case(runs=(left, right), settings=settings, weights=weights, inputs=inputs, allow=(), **fields)",
        f"    return {given}, case",
    ]
    return "\n".join(lines)


def _sections(sources: Mapping[str, bytes]) -> Iterator[str]:
    for path, content in sources.items():
        yield f"{RULE}\n# {path}\n\nSOURCES[{path!r}] = {quoted(content)}"
