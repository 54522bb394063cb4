"""Programs about checkpoints that change sides: converted there and back, and training that goes on from them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from impl.checkpoint import convert, load_tree, save_tree
from impl.config import ModelConfig
from impl.inputs import FIELDS
from impl.lifecycle import CALM
from impl.requested import config_of
from impl.sides import side
from impl.stacks import groups
from impl.training.objective import Batch

__all__ = ["conversion", "crossing"]

Values = Mapping[str, np.ndarray]
Settings = Mapping[str, Any]
Channels = dict[str, dict[str, Any]]


def conversion(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """A trained state's checkpoint to the other format, to the other layout, and back.

    "disk" holds it in both formats, unscanned: each side's own files, and what it becomes for the other, leaf by leaf.
    Streams of random keys are left out of it: Linen keeps none.
    """
    config = config_of(settings)
    trainer = side(name).Trainer(config, CALM, weights, 5)
    for step in range(2):
        trainer.step(_batch(inputs, step))
    with tempfile.TemporaryDirectory(prefix="conversion-") as folder:
        trees = _converted(Path(folder), trainer.tree(), config)
    ways = [way for way in trees if way.startswith("own through")]
    disk = {f"{to}/{path}": leaf for to in ("linen", "nnx") for path, leaf in _leaves(trees[f"{to}, apart"]).items()}
    return {
        "claims": {f"{way} is byte-equal": np.bool_(_same(trees["own"], trees[way])) for way in ways},
        "disk": {path: leaf for path, leaf in disk.items() if "/nnx_aux/" not in path and "/rngs/" not in path},
    }


def crossing(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """Training goes on through the other side's format as if nothing had happened: bit-equal, streams included.

    Half the steps, a checkpoint, converted to the other format (the one that keeps no random streams) and back, taken
    up by a fresh trainer that started from other weights, the other half. With dropout off, both formats at the break
    ("disk") and what became of the state ("updates") are compared between the sides as well: what one side saves is
    then what the other loads.
    """
    config, steps = config_of(settings), settings["steps"]
    fresh = partial(side(name).Trainer, config, replace(CALM, **settings.get("retrained", {})))
    straight, taking = fresh(weights, 5), fresh({key: value + 1 for key, value in weights.items()}, 5)
    for step in range(steps // 2):
        straight.step(_batch(inputs, step))
    with tempfile.TemporaryDirectory(prefix="crossing-") as folder:
        trees = _through(Path(folder), straight.tree(), config)
    taking.adopt(trees["back"])
    claims = _claims("at the break", straight, taking)
    for step in range(steps // 2, steps):
        expected, got = (trainer.step(_batch(inputs, step)) for trainer in (straight, taking))
        claims.update({f"step{step}/{key} goes on": np.bool_(value == got[key]) for key, value in expected.items()})
    claims |= _claims("at the end", straight, taking)
    claims["steps were made after the break"] = np.bool_(taking.steps_done == steps > steps // 2)
    channels: Channels = {"claims": claims}
    if config.dropout_rate:
        return channels
    disk = {f"{to}/{path}": leaf for to in ("linen", "nnx") for path, leaf in _leaves(trees[to]).items()}
    return {**channels, "disk": disk, "updates": {**taking.weights(), **taking.slots()}}


def _batch(inputs: Values, step: int) -> Batch:
    return Batch(*[inputs[f"step{step}/{field}"] for field in FIELDS])


def _through(folder: Path, tree: Any, config: ModelConfig) -> dict[str, Any]:
    """The checkpoint in Linen's format and NNX's, unscanned, and "back" as it comes from the other format."""
    mine, theirs = ("D1", "D3") if "params" in tree else ("D3", "D1")
    save_tree(folder / "own", tree)
    axis, cycle = config.param_scan_axis, _cycle(config)
    ways = (
        ("own", "other", theirs, "keep"),
        ("other", "back", mine, "keep"),
        ("own", "linen", "D1", "unscanned"),
        ("own", "nnx", "D3", "unscanned"),
    )
    for source, target, to, arranged in ways:
        convert(folder / source, folder / target, to=to, layout=arranged, scan_axis=axis, cycle=cycle)
    return {path.name: load_tree(path) for path in folder.iterdir()}


def _claims(when: str, expected: Any, got: Any) -> dict[str, np.bool_]:
    """Whether two trainers have the same weights and slots, by name, and the same random streams, to the byte."""
    one, two = ({**trainer.weights(), **trainer.slots()} for trainer in (expected, got))
    claims = {f"{key} {when}": np.bool_(value.tobytes() == two[key].tobytes()) for key, value in one.items()}
    return {**claims, f"all that is saved {when}": np.bool_(_same(expected.tree(), got.tree()))}


def _converted(folder: Path, tree: Any, config: ModelConfig) -> dict[str, Any]:
    """The checkpoint as saved ("own"), back from the other format and the other layout, and apart in both formats."""
    axis, layouts = config.param_scan_axis, ("scanned", "unscanned")
    cycle = _cycle(config)
    layout, opposite = layouts if config.scan_layers else layouts[::-1]
    save_tree(folder / "own", tree)
    mine, theirs = ("linen", "nnx") if "params" in tree else ("nnx", "linen")
    steps = (
        ("own", "other", theirs, "keep"),
        ("other", "own through the other format", mine, "keep"),
        ("own", "opposite", theirs, opposite),
        ("opposite", "own through the other layout", mine, layout),
        ("own", "linen, apart", "linen", "unscanned"),
        ("own", "nnx, apart", "nnx", "unscanned"),
    )
    for source, target, to, arranged in steps:
        convert(folder / source, folder / target, to=to, layout=arranged, scan_axis=axis, cycle=cycle)
    return {path.name: load_tree(path) for path in folder.iterdir()}


def _cycle(config: ModelConfig) -> int:
    """How many layers a block of the scanned layout holds."""
    return max(len(group.kinds) for group in groups(replace(config, scan_layers=True)) if group.form == "scanned")


def _leaves(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Path -> array; None (an optimizer state without leaves) counts for nothing."""
    if isinstance(tree, Mapping):
        items: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {} if tree is None else {prefix: np.asarray(tree)}
    return {key: value for name, part in items for key, value in _leaves(part, f"{prefix}/{name}").items()}


def _same(left: Any, right: Any) -> bool:
    first, second = _leaves(left), _leaves(right)
    return first.keys() == second.keys() and all(
        value.dtype == second[key].dtype and value.tobytes() == second[key].tobytes() for key, value in first.items()
    )
