"""Commands on checkpoints that are killed at a given place, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.test_house import ROOT

CHILD = """
import importlib, os, signal, sys
from pathlib import Path
from impl import checkpoint

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

def convert(source, target):
    request = checkpoint.Request(source=source, target=target, to="auto", layout="unscanned", scan_axis=1)
    checkpoint.convert_as(request, lambda moved, total: None)

def export(source, target):
    checkpoint.export(source, target, checkpoint.ExportWishes(layout="unscanned"))

def paxml(source, target):
    checkpoint.paxml(source, target, checkpoint.PaxmlWishes())

verb = {"convert": convert, "entropy": checkpoint.entropy, "export": export, "paxml": paxml}[sys.argv[1]]
for place in sys.argv[3:]:
    if not (child := os.fork()):
        room, module, *names, last = place.split(".")
        owner = importlib.import_module(f"impl.checkpoint.{room}.{module}")
        for name in names:
            owner = getattr(owner, name)
        setattr(owner, last, die)
        verb(Path(sys.argv[2]), Path(sys.argv[2]).parent / place)
        os._exit(0)
    print(place, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*[name for name in ("jax", "orbax", "flax", "optax") if name in sys.modules], "heavy")
"""


def kill(verb, source, places):
    """Runs `verb` on `source` once a place, a function "room.module.name"; the process dies when it is called.

    The target of each is called like its place, and lies beside the source.
    """
    words = [sys.executable, "-c", CHILD, verb, str(source), *places]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.strip() for line in done.stdout.splitlines()] == [*(f"{at} -9" for at in places), "heavy"]
