"""The programs of a module pair: what an engine did, by channel and neutral name. The same code for both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from harness.case import Case
from harness.modules.claims import dropout_claims, loss_claims
from harness.modules.engine import Engine, Mode, key_parts, total
from harness.names import NameMap, Row, gather, spread
from harness.observation import Values
from harness.pair import Program
from harness.scenario import Run

__all__ = ["Binding", "programs"]


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What both sides have in common. modules: Linen module path -> NNX module path, in Linen's forward order, for
    the modules that both sides call. rates: side -> rates of its dropouts."""

    names: NameMap
    modules: Mapping[tuple[str, ...], tuple[str, ...]]
    rates: Mapping[str, tuple[float, ...]]


def programs(engine: Engine, bound: Callable[[], Binding]) -> dict[str, Program]:
    """Program name -> program. `bound` is asked when a program runs, not before: a pair must be cheap to import."""

    def program(work: Callable[[Engine, Binding, Case], Mapping[str, Values]]) -> Program:
        return lambda case, run: _observed(work(engine, bound(), case))

    return {
        "structure": program(_structure),
        "forward": program(_forward),
        "forward_train": program(_forward_train),
        "grad": program(partial(_grad, "train")),
        "grad_dropout": program(partial(_grad, "dropout")),
        "train": lambda case, run: _observed(_train(engine, bound(), case, run)),
        "state": program(_state),
        "taps": program(partial(_taps, "eval")),
        "taps_train": program(partial(_taps, "train")),
    }


def _observed(channels: Mapping[str, Values]) -> dict[str, Values]:
    """Without the channels in which there was nothing to see: absent, never empty."""
    return {channel: values for channel, values in channels.items() if values}


def _batch(case: Case, step: int) -> dict[str, Any]:
    return {name: jax.numpy.asarray(array[step]) for name, array in case.inputs.items()}


def _stored(engine: Engine, bound: Binding, case: Case) -> Any:
    return spread(bound.names, engine.name, case.weights)


def _named(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    """A pytree as names: the prefix alone for one array, with the path below it otherwise."""
    return {"/".join((prefix, *key_parts(path))): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def _collections(names: NameMap) -> list[str]:
    """Every collection but the trained one."""
    return sorted({row.collection for row in names.rows} - {"params"})


def _below(prefix: str, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


def _structure(engine: Engine, bound: Binding, case: Case) -> dict[str, Values]:
    """Names, shapes, dtypes and counts, read from the side's own leaves; rates of its dropouts."""
    batch = _batch(case, 0)
    leaves = engine.leaves(batch)
    values: dict[str, np.ndarray] = {}
    for row in bound.names.rows:
        address = row.addresses[engine.name]
        shape = list(row.leaf.shape if address.part else leaves[address.key].shape)
        if address.stack:
            del shape[address.stack[0]]
        values[f"{row.name}/shape"] = np.array(shape, dtype=np.int64)
        values[f"{row.name}/dtype"] = np.array(leaves[address.key].dtype)
    for collection in sorted({key[0] for key in leaves}):
        count = sum(int(np.prod(leaf.shape)) for key, leaf in leaves.items() if key[0] == collection)
        values[f"{collection}/count"] = np.array(count, dtype=np.int64)
    values["dropout/rates"] = np.array(bound.rates[engine.name], dtype=np.float64)
    return {"structure": values}


def _forward(engine: Engine, bound: Binding, case: Case) -> dict[str, Values]:
    output, _ = engine.call(_stored(engine, bound, case), _batch(case, 0), "eval")
    return {"outputs": _named("output", output)}


def _forward_train(engine: Engine, bound: Binding, case: Case) -> dict[str, Values]:
    output, after = engine.call(_stored(engine, bound, case), _batch(case, 0), "train")
    values = gather(bound.names, engine.name, after)
    state = {row.name: values[row.name] for row in bound.names.of(*_collections(bound.names)).rows}
    return {"outputs": _named("output", output), "state": state}


def _grad(mode: Mode, engine: Engine, bound: Binding, case: Case) -> dict[str, Values]:
    """Each loss term and the gradient of their sum."""
    stored = _stored(engine, bound, case)
    (terms, grads), (others, _) = (engine.grad(stored, _batch(case, step), mode) for step in (0, 1))
    gradients = gather(bound.names.of("params"), engine.name, grads)
    claims = loss_claims(terms, others)
    claims["some gradient is not zero"] = np.array(any(np.any(value != 0) for value in gradients.values()))
    return {"loss": _loss(terms), "gradients": gradients, "claims": claims}


def _loss(terms: Mapping[str, Any]) -> dict[str, np.ndarray]:
    values = {name: np.asarray(value) for name, value in terms.items()}
    return {**values, "total": np.asarray(total(values))}


def _train(engine: Engine, bound: Binding, case: Case, run: Run) -> dict[str, Values]:
    """After each optimizer step: loss, weights, optimizer slots and what else the model keeps."""
    count = len(next(iter(case.inputs.values())))
    steps = int({**case.settings, **run.settings}.get("steps", count))
    if not 0 < steps <= count:
        raise ValueError(f"steps={steps}, but the case holds {count} batches: give 1 to {count}")
    batches = [_batch(case, step) for step in range(steps)]
    loss: dict[str, np.ndarray] = {}
    updates: dict[str, np.ndarray] = {}
    state: dict[str, np.ndarray] = {}
    others = {row.name for row in bound.names.of(*_collections(bound.names)).rows}
    for number, step in enumerate(engine.train(_stored(engine, bound, case), batches), start=1):
        values = gather(bound.names, engine.name, step.stored)
        loss |= _below(f"step {number}", _loss(step.terms))
        weights = {name: value for name, value in values.items() if name not in others}
        updates |= _below(f"step {number}", {**weights, **_slots(engine, bound.names, step.slots)})
        updates[f"step {number}/count"] = np.array(step.step, dtype=np.int64)
        state |= _below(f"step {number}", {name: values[name] for name in values if name in others})
    moved = any(not np.array_equal(updates[f"step 1/{name}"], case.weights[name]) for name in weights)
    return {"loss": loss, "updates": updates, "state": state, "claims": {"weights move": np.array(moved)}}


def _slots(engine: Engine, names: NameMap, slots: Mapping[tuple[str, ...], np.ndarray]) -> dict[str, np.ndarray]:
    """Optimizer state by neutral name: "slots/0/mu/params/Dense_0/kernel". The end of a path that is a parameter's
    address is written by the parameter's name; what has none (a step count) keeps its path."""
    rows: dict[tuple[str, ...], list[tuple[int, Row]]] = {}
    for index, row in enumerate(names.of("params").rows):
        rows.setdefault(row.addresses[engine.name].path, []).append((index, row))
    found: dict[tuple[str, ...], list[tuple[int, str, np.ndarray]]] = {}
    for path, array in slots.items():
        start = next((at for at in range(len(path)) if path[at:] in rows), len(path))
        kind = found.setdefault(path[:start], [])
        if start == len(path):
            kind.append((0, "/".join(("slots", *path)), array))
        for index, row in rows.get(path[start:], ()):
            address = row.addresses[engine.name]
            kind.append((index, "/".join(("slots", *path[:start], row.name)), address.take(array)))
    # Each side lists its parameters in its own order; slots are told in the map's, which is the forward one.
    return {name: array for kind in found.values() for _, name, array in sorted(kind, key=lambda slot: slot[0])}


def _changed(case: Case, values: Mapping[str, np.ndarray]) -> list[str]:
    return [name for name, value in values.items() if not np.array_equal(value, case.weights[name])]


def _state(engine: Engine, bound: Binding, case: Case) -> dict[str, Values]:
    """Which leaves one call changes in each mode, as text and as values; and whether dropout does what it says."""
    stored, batch = _stored(engine, bound, case), _batch(case, 0)
    state: dict[str, np.ndarray] = {}
    claims: dict[str, np.ndarray] = {}
    modes: tuple[Mode, ...] = ("eval", "train")
    for mode in modes:
        values = gather(bound.names, engine.name, engine.call(stored, batch, mode)[1])
        changed = _changed(case, values)
        state[f"{mode}/changed"] = np.array("\n".join(changed) or "nothing")
        state |= _below(mode, {name: values[name] for name in changed})
        if mode == "eval":
            claims["an eval call changes nothing"] = np.array(not changed)
        else:
            statistics = {row.name for row in bound.names.of("batch_stats").rows}
            if statistics:
                claims["a train call moves every batch statistic"] = np.array(statistics <= set(changed))
            claims["a train call leaves the weights alone"] = np.array(
                not any(name.startswith("params/") for name in changed)
            )
    if bound.rates[engine.name]:
        claims |= dropout_claims(engine.masks(stored, batch))
    return {"state": state, "claims": claims}


def _taps(mode: Mode, engine: Engine, bound: Binding, case: Case) -> dict[str, Values]:
    """Outputs of the modules that both sides call, by the Linen module's path ("." is the whole), in forward order."""
    taps = engine.taps(_stored(engine, bound, case), _batch(case, 0), mode)
    values: dict[str, np.ndarray] = {}
    for linen, nnx in bound.modules.items():
        own = {"linen": linen, "nnx": nnx}[engine.name]
        names = sorted((name for path, name in taps if path == own), key=lambda name: (name == "__call__", name))
        for name in names:
            label = ("/".join(linen) or ".") + ("" if name == "__call__" else f":{name}")
            calls = taps[own, name]
            values |= _named(label, calls[0] if isinstance(calls, tuple) and len(calls) == 1 else calls)
    return {"intermediates": values}
