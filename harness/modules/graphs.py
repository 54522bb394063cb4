"""What a module pair's programs compile, lowered on abstract values under neutral names: what proofs are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax

from harness.modules.draw import draw_batches
from harness.modules.engine import Engine, key_parts, total
from harness.modules.programs import Binding
from harness.modules.spec import Task
from harness.names import Key
from harness.pair import NoGraphs, Parts
from harness.recorder import Leaf, Lowered, lower

__all__ = ["graphs"]

Named = dict[str, Any]
Path = tuple[str, ...]


def graphs(
    engine: Engine, task: Task, bound: Callable[[], Binding], _settings: Mapping[str, object]
) -> dict[str, Parts]:
    """Program -> part -> what lowers it, for the programs that compile: forward, forward_train, grad, train."""

    def part(make: Callable[[_Names], Lowered]) -> Callable[[], Lowered]:
        return lambda: make(_Names(engine, task, bound()))

    return {
        "forward": {"call": part(partial(_call, "eval"))},
        "forward_train": {"call": part(partial(_call, "train"))},
        "grad": {"grad": part(_grad)},
        "train": {"start": part(_start), "step": part(_step)},
    }


class _Names:
    """An engine's leaves, abstract, and the neutral name of each; layers of a stack are named one by one."""

    def __init__(self, engine: Engine, task: Task, bound: Binding):
        self.traces = engine.traces
        drawn = draw_batches(task.inputs, 0, 1)
        batch = {name: array[0] for name, array in drawn.items()}
        self.batch = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in batch.items()}
        self.stored: dict[Key, Any] = {}
        self.leaves: dict[Key, Leaf] = {}
        rows: dict[Key, list[tuple[int, int, str]]] = {}
        for row in bound.names.rows:
            address = row.addresses[engine.name]
            if address.part:
                raise NoGraphs(f"{engine.name} stores {row.name} rearranged, which no graph of the program shows")
            axis, index = address.stack or (-1, 0)
            rows.setdefault(address.key, []).append((index, axis, row.name))
        found = engine.leaves(batch)
        for key, entries in rows.items():
            self.leaves[key] = Leaf(tuple(name for *_, name in sorted(entries)), entries[0][1])
            self.stored[key] = jax.ShapeDtypeStruct(tuple(found[key].shape), found[key].dtype)
        self._paths = {path: leaf for (collection, path), leaf in self.leaves.items() if collection == "params"}

    def of(self, stored: Mapping[Key, Any], prefix: str) -> Iterator[tuple[Leaf, Any]]:
        """(names, array) of leaves by key, names after `prefix`."""
        for key, array in stored.items():
            yield _after(prefix, self.leaves[key]), array

    def slots(self, slots: Mapping[Path, Any], prefix: str) -> Iterator[tuple[Leaf, Any]]:
        """(names, array) of optimizer slots: the end of a path that is a parameter's is written by its name."""
        for path, array in slots.items():
            cut = next((at for at in range(len(path)) if path[at:] in self._paths), len(path))
            leaf = self._paths.get(path[cut:], Leaf(("",)))
            above = "/".join(("slots", *path[:cut]))
            yield _after(f"{prefix}{above}", leaf), array


def _after(prefix: str, leaf: Leaf) -> Leaf:
    return Leaf(tuple("/".join(part for part in (prefix, name) if part) for name in leaf.names), leaf.axis)


def _call(mode: Any, names: _Names) -> Lowered:
    def run(stored: Any, batch: Any) -> list[tuple[Leaf, Any]]:
        output, after = names.traces.call(stored, batch, mode)
        kept = {key: after[key] for key in names.leaves if key[0] != "params"} if mode == "train" else {}
        return [*_tree("output", output), *names.of(kept, "state")]

    return _lowered(names, run, {})


def _grad(names: _Names) -> Lowered:
    def run(stored: Any, batch: Any) -> list[tuple[Leaf, Any]]:
        terms, grads = names.traces.grad(stored, batch, "train")
        return [*_terms(terms), *names.of(grads, "gradients")]

    return _lowered(names, run, {})


def _start(names: _Names) -> Lowered:
    return _lowered(names, lambda stored, batch: list(names.slots(names.traces.start(stored), "")), {})


def _step(names: _Names) -> Lowered:
    slots = jax.eval_shape(names.traces.start, names.stored)

    def run(stored: Any, batch: Any, slots: Any) -> list[tuple[Leaf, Any]]:
        terms, after, later = names.traces.step(stored, slots, batch)
        kept = {key: after[key] for key in names.leaves}
        return [*_terms(terms), *names.of(kept, "updates"), *names.slots(later, "updates")]

    return _lowered(names, run, slots)


def _lowered(names: _Names, run: Callable[..., list[tuple[Leaf, Any]]], slots: Mapping[Path, Any]) -> Lowered:
    """Lowers `run`, whose arguments are lists of arrays in the order of their names."""
    keys, paths, batch = list(names.stored), list(slots), list(names.batch)
    inputs = [
        *(leaf for leaf, _ in names.of(names.stored, "")),
        *(leaf for leaf, _ in names.slots(slots, "")),
        *(Leaf((f"batch/{name}",)) for name in batch),
    ]
    outputs: list[Leaf] = []

    def flat(*arrays: Any) -> list[Any]:
        stored = dict(zip(keys, arrays, strict=False))
        held = dict(zip(paths, arrays[len(keys) :], strict=False))
        given = dict(zip(batch, arrays[len(keys) + len(paths) :], strict=True))
        found = run(stored, given, held) if slots else run(stored, given)
        outputs[:] = [leaf for leaf, _ in found]
        return [array for _, array in found]

    arguments = [*names.stored.values(), *slots.values(), *names.batch.values()]
    return lower(flat, arguments, lambda path: inputs[int(path)], lambda path: outputs[int(path)])


def _tree(prefix: str, tree: Any) -> Iterator[tuple[Leaf, Any]]:
    for path, leaf in jax.tree.leaves_with_path(tree):
        yield Leaf(("/".join((prefix, *key_parts(path))),)), leaf


def _terms(terms: Mapping[str, Any]) -> Iterator[tuple[Leaf, Any]]:
    for name, value in {**terms, "total": total(terms)}.items():
        yield Leaf((f"loss/{name}",)), value
