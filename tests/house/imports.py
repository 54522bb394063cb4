"""Who may import whom. Imports anywhere in a file count, also those inside functions."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module; `lazily` if the import stands inside a function."""

    module: str
    lazily: bool


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Modules at or below `room` import nothing at or below `never`, for the reason `because`."""

    room: str
    never: tuple[str, ...]
    because: str
    spared: tuple[str, ...] = ()


FRAMEWORKS = ("flax", "jax", "jaxlib", "optax", "orbax")

NUMPY_ONLY = (
    *("allowance", "case", "comparison", "difference", "distance", "drift", "golden", "judge", "observation"),
    *("proof", "report", "scenario", "verdict", "verdict_json"),
)
"""Rooms of the harness that judge or render: they are true whatever JAX does, so they must not load it."""

CHECKPOINT_ROOMS = ("leaves", "storage", "dialects", "comparison", "checksums", "conversion", "derived")
"""Rooms of impl.checkpoint: each may import those before it."""

RULES = (
    Rule(room="impl", never=("harness", "scenarios", "examples", "tests"), because="impl stands without its verifier"),
    Rule(room="impl.linen", never=("impl.nnx", "impl.bridged"), because="the sides never see each other"),
    Rule(room="impl.nnx", never=("impl.linen", "impl.bridged"), because="the sides never see each other"),
    Rule(room="impl.math", never=("flax", "optax", "orbax"), because="the maths belongs to no framework"),
    *(
        Rule(
            room=f"impl.checkpoint.{room}",
            never=tuple(f"impl.checkpoint.{later}" for later in CHECKPOINT_ROOMS[place + 1 :]),
            because="what lies on disk knows nothing of what is made of it",
        )
        for place, room in enumerate(CHECKPOINT_ROOMS[:-1])
    ),
    Rule(
        room="harness",
        never=("impl", "scenarios", "examples", "tests"),
        spared=("harness.registry",),
        because="the harness knows pairs, never LLMs; only the registry knows impl",
    ),
    Rule(room="harness", never=("harness.cli",), spared=("harness.cli",), because="hands use the rest, not vice versa"),
    *(
        Rule(room=f"harness.{room}", never=FRAMEWORKS, because="judging and rendering need NumPy alone")
        for room in NUMPY_ONLY
    ),
    Rule(room="scenarios", never=(*FRAMEWORKS, "numpy", "examples", "tests"), because="a scenario is data"),
)

SCENARIO_MAY = ("harness", "impl.config", "impl.presets", "impl.sharding.plan", "impl.tiny", "impl.training.settings")


def imported(source: str, module: str) -> Iterator[Import]:
    """What `source`, the text of `module` ("a.b", or "a.b.__init__" for a package), imports.

    `from a import b` counts as a and as a.b, since b may be a module.
    """
    yield from _within(ast.parse(source), module, lazily=False)


def _within(tree: ast.AST, module: str, *, lazily: bool) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(module=alias.name, lazily=lazily) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield Import(module=base, lazily=lazily)
            yield from (Import(module=f"{base}.{alias.name}", lazily=lazily) for alias in node.names)
        inside = lazily or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _within(node, module, lazily=inside)


def under(module: str, room: str) -> bool:
    """Whether `module` is `room` or lies in it."""
    return module == room or module.startswith(f"{room}.")


def forbidden(source: str, module: str) -> list[str]:
    """Imports that a rule forbids."""
    found = []
    for rule in RULES:
        if not under(module, rule.room) or any(under(module, spared) for spared in rule.spared):
            continue
        hits = {i.module for i in imported(source, module) if any(under(i.module, never) for never in rule.never)}
        found += [f"{module} imports {hit}: {rule.because}" for hit in sorted(hits)]
    return found


def early(source: str, module: str) -> list[str]:
    """Imports of impl by harness.registry that are made before somebody asks for the pair."""
    hits = {i.module for i in imported(source, module) if under(i.module, "impl") and not i.lazily}
    return [f"{module} imports {hit} outside a function" for hit in sorted(hits)]


def unlisted(source: str, module: str, allowed: tuple[str, ...]) -> list[str]:
    """Imports of anything but the standard library and what is at or below `allowed`."""
    roots = [i.module for i in imported(source, module)]
    known = (*allowed, *sys.stdlib_module_names)
    parents = {room.rpartition(".")[0] for room in allowed}
    strange = {root for root in roots if not any(under(root, room) for room in known) and root not in parents}
    return [f"{module} imports {root}" for root in sorted(strange)]


def closure(start: str, sources: Mapping[str, str]) -> set[str]:
    """Every module that importing `start` imports at once, over all project modules in `sources` (module -> text)."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        text = sources.get(module, sources.get(f"{module}.__init__"))
        if text is not None:
            name = module if module in sources else f"{module}.__init__"
            waiting += [i.module for i in imported(text, name) if not i.lazily]
        waiting += [module.rpartition(".")[0]] if "." in module else []
    return found
