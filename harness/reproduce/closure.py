"""Which sources a reproduction needs: what was imported and read when its two runs were made in a fresh process."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.reproduce.plan import ReproductionError
from harness.reproduce.trimming import trimmed

__all__ = ["Closure", "closures"]

FRAMEWORKS = frozenset(
    ("absl", "chex", "etils", "flax", "jax", "jaxlib", "ml_dtypes", "numpy", "optax", "orbax", "scipy", "tensorstore")
)
"""Never written into the file, not even where they are installed from a checkout: a stranger has his own."""

LARGEST, TOTAL = 1 << 20, 8 << 20
"""Bytes of one embedded file, and of all of them."""

PROBE = Path(__file__).with_name("probe.py")


@dataclass(frozen=True, kw_only=True)
class Closure:
    """sources: path in the file's own tree ("impl/config.py") -> bytes. libraries: distributions that they import."""

    sources: Mapping[str, bytes]
    libraries: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What the probe found; its docstring says what the fields are."""

    code: int
    modules: Mapping[str, str]
    packages: Sequence[str]
    read: Sequence[str]
    ran: Mapping[str, Sequence[int]]


def closures(
    draft: Path, roots: Sequence[str], environment: Mapping[str, str], seconds: float
) -> tuple[Closure, Closure]:
    """Runs `draft`, a reproduction without its sources, with this process's import path, and reads what it needed.

    Returns the modules that the case has a use for, with stubs in place of others, and all that were imported.
    roots: modules that the draft imports, the pair's first: its package is embedded even if it is installed. Modules of
    the standard library and of site-packages are not, nor those of JAX, Flax and their kind.
    Raises ReproductionError if the draft does not run, or needs what cannot be written as text.
    """
    found = _probed(draft, environment, seconds)
    files = _own(found.modules, {"harness", roots[0].partition(".")[0]} - FRAMEWORKS)
    sources = _sources(files, found.packages)
    paths = {file: path for path, file in zip(sources, files.values(), strict=True)}
    ran = {(paths[file], line) for file, lines in found.ran.items() if file in paths for line in lines}
    data = _data(files, found.packages, found.read)
    if sum(map(len, [*sources.values(), *data.values()])) > TOTAL:
        worst = max(sources, key=lambda path: len(sources[path]))
        raise ReproductionError(f"the sources are larger than {TOTAL >> 20} MiB together, the largest is {worst}")

    def made(chosen: Mapping[str, bytes]) -> Closure:
        return Closure(sources=dict(sorted({**chosen, **data}.items())), libraries=_libraries(chosen, found.modules))

    return made(trimmed(sources, roots, ran)), made(sources)


def _probed(draft: Path, environment: Mapping[str, str], seconds: float) -> _Answer:
    answer = draft.with_name("needed.json")
    command = [sys.executable, str(PROBE), str(draft), str(answer), json.dumps(sys.path)]
    try:
        done = subprocess.run(command, env=dict(environment), capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as problem:
        raise ReproductionError(f"the case did not end within {seconds:g} s when run by itself") from problem
    if answer.is_file():
        found = _Answer(**json.loads(answer.read_text(encoding="utf-8")))
        if found.code != 2:
            return found
    words = done.stderr.decode(errors="replace")[-2000:]
    raise ReproductionError(f"the case does not run by itself, outside the harness: {words}")


def _own(modules: Mapping[str, str], always: set[str]) -> dict[str, str]:
    """Module -> file ("" for a package without one) of what is neither a library's nor the interpreter's."""
    places = [sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [*site.getsitepackages(), site.getusersitepackages()]
    roots = [Path(os.path.realpath(place)) for place in places]

    def foreign(file: Path) -> bool:
        return any(map(file.is_relative_to, roots)) or not {"site-packages", "dist-packages"}.isdisjoint(file.parts)

    own = {
        name: file
        for name, file in modules.items()
        if file and name.partition(".")[0] not in FRAMEWORKS
        if name.partition(".")[0] in always or not foreign(Path(file))
    }
    above = {name.rpartition(".")[0] for name in own}
    while more := {name.rpartition(".")[0] for name in above} - above:
        above |= more
    return own | {name: "" for name in above - {""} if name not in own}


def _sources(files: Mapping[str, str], packages: Sequence[str]) -> dict[str, bytes]:
    sources = {}
    for name, file in files.items():
        if file and not file.endswith(".py"):
            raise ReproductionError(f"{name} is {file}, which is not Python text: it cannot be written into one file")
        inside = "/__init__.py" if name in packages or not file else ".py"
        sources[name.replace(".", "/") + inside] = Path(file).read_bytes() if file else b""
    return sources


def _data(files: Mapping[str, str], packages: Sequence[str], read: Sequence[str]) -> dict[str, bytes]:
    """Other files that were read, of those that lie in the folder of an own package or beside an own module."""
    folders = {
        Path(file).parent: name.replace(".", "/") if name in packages else ""
        for name, file in files.items()
        if file and (name in packages or "." not in name)
    }
    found = {}
    for path in map(Path, read):
        place = next((folder for folder in path.parents if folder in folders), None)
        if place is None or path.suffix in (".py", ".pyc", ".so") or not path.is_file():
            continue
        if path.stat().st_size > LARGEST:
            raise ReproductionError(f"{path} is read by the case and larger than {LARGEST >> 20} MiB: make it smaller")
        found[(Path(folders[place]) / path.relative_to(place)).as_posix()] = path.read_bytes()
    return found


def _libraries(sources: Mapping[str, bytes], modules: Mapping[str, str]) -> tuple[str, ...]:
    """Distributions whose packages the sources import and that were there, jax and flax first."""
    names: set[str] = set()
    for path, content in sources.items():
        if path.endswith(".py"):
            for node in ast.walk(ast.parse(content)):
                if isinstance(node, ast.Import):
                    names.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    names.add(node.module.partition(".")[0])
    ours = {path.partition("/")[0].removesuffix(".py") for path in sources}
    strange = sorted(name for name in names - ours - sys.stdlib_module_names if name in modules)
    known = importlib.metadata.packages_distributions()
    found = [known[name][0] for name in strange if name in known]
    return tuple(dict.fromkeys(("jax", "jaxlib", "flax", "numpy", *found)))
