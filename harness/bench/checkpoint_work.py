"""One piece of work on checkpoints in a process of its own, so that its memory is its own too.

`python -m harness.bench.checkpoint_work '{"work": "link", ...}'` prints its seconds after start-up and its peak memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.registry import load_checkpoint_tools

__all__ = ["do", "peak_bytes"]

BLOCK = 16 << 20


def do(request: Mapping[str, Any]) -> dict[str, Any]:
    """Does the work and returns what is known of it: seconds, peak bytes, and a count of what was asked about."""
    tools = load_checkpoint_tools()
    paths = {name: Path(request[name]) for name in ("source", "target") if name in request}
    start = time.perf_counter()
    count = _done(tools, request, paths)
    return {"seconds": time.perf_counter() - start, "peak": peak_bytes(), "count": count}


def _done(tools: Any, request: Mapping[str, Any], paths: Mapping[str, Path]) -> int:
    work = request["work"]
    asked = {"to": request.get("to", "nnx"), "layout": request.get("layout", "keep"), "scan_axis": 1}
    if work == "sample":
        names = ("layout", "layers", "width", "compressed")
        return tools.write_sample(paths["target"], **{name: request[name] for name in names})
    if work in ("link", "copy"):
        report = tools.convert_as(tools.Request(**paths, **asked, mode=work), lambda moved, total: None)
        return report.transfer.made_bytes
    if work == "load":
        tools.convert_in_memory(paths["source"], paths["target"], **asked)
        return 0
    if work == "compare":
        record = tools.compare(paths["source"], paths["target"], values="values", rtol=0.0, atol=0.0, only="all")
        return record.compared if record.equal else -1
    if work == "read":
        return sum(map(_read, paths.values()))
    raise ValueError(f"{work!r} is no work that is known")


def _read(folder: Path) -> int:
    """Reads every file below `folder` into one buffer, and returns their bytes."""
    buffer, total = bytearray(BLOCK), 0
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb", buffering=0) as stream:
                while count := stream.readinto(buffer):
                    total += count
    return total


def peak_bytes() -> int:
    """The most memory this process has held. Not ru_maxrss: that begins with what its starter held."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    print(json.dumps(do(json.loads(sys.argv[1]))))
