"""Reading a reference folder: config.json, inputs.npz, logits.npz, loss.json, grads.npz, and a checkpoint.

Any dialect and layer layout that `impl.checkpoint` knows; grads.npz has Linen's paths, scanned layers stacked.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.dialects.cycles import numbering
from impl.checkpoint.dialects.layers import find_groups, settle, suffixed_names
from impl.checkpoint.dialects.restack import unstack
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.storage.whole_trees import locate, read_arrays
from impl.config import ConfigError, ModelConfig
from impl.maxtext import read
from impl.names import BridgeError, addresses, gather
from impl.params import declare
from impl.training.objective import Batch

__all__ = ["Reference", "ReferenceFolderError", "Variant", "neutral", "read_reference"]

FIELDS = ("inputs", "inputs_position", "inputs_segmentation", "targets", "targets_segmentation")


class ReferenceFolderError(ValueError):
    """A reference that cannot be compared. The message names the file, what is wrong and the cure."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One set of inputs and what the reference computed on it; None and {} where it has nothing."""

    name: str
    batch: Batch
    logits: np.ndarray | None
    terms: Mapping[str, float]
    gradients: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A folder read: model, weights by neutral name, z-loss weight, variants, and how it was read."""

    case: str
    source: str
    config: ModelConfig
    weights: Mapping[str, np.ndarray]
    z_loss: float
    variants: tuple[Variant, ...]
    notes: tuple[str, ...]


def read_reference(folder: Path) -> Reference:
    """Everything in `folder`. Raises ReferenceFolderError, also for a model that does not exist here."""
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise ReferenceFolderError(f"{folder}: expected a reference folder, found {found}")
    whole = _json(folder / "config.json")
    model = whole.get("model", whole)
    try:
        reading = read(model)
        weights, notes = _weights(folder, reading.config)
        config = replace(reading.config, weight_dtype=_widest(weights))
        variants = _variants(folder, config)
    except (ConfigError, CheckpointError, BridgeError) as problem:
        raise ReferenceFolderError(f"{folder.name}: {problem}") from problem
    return Reference(
        case=str(whole.get("case", folder.name)),
        source=f"MaxText {whole.get('maxtext', 'of unknown version')}",
        config=config,
        weights=weights,
        z_loss=float(model.get("z_loss_multiplier", 0.0)),
        variants=variants,
        notes=(f"{len(reading.ignored)} keys of config.json leave the model as it is: see impl.maxtext.read", *notes),
    )


def neutral(leaves: Mapping[tuple[str, ...], np.ndarray], config: ModelConfig, scan_axis: int) -> dict[str, np.ndarray]:
    """Leaves by path, in any layer layout -> by neutral name, in the declared shapes.

    A fused projection stored as (E, 3, H, D) becomes (E, H + 2K, D), which has the same order where H = K.
    Raises BridgeError and CheckpointError for leaves that are not this model's.
    """
    groups = find_groups(leaves, {})
    nested = frozenset(group.name for group in groups if group.form == "nested")
    apart: dict[tuple[str, ...], Any] = {suffixed_names(path, nested): leaf for path, leaf in leaves.items()}
    for group in groups:
        if group.form == "stacked":
            settled = settle(group, apart, scan_axis)
            apart = unstack(apart, settled, settled.axis)
            rename = numbering(apart, settled)
            apart = {rename(path): leaf for path, leaf in apart.items()}
    values = gather(apart, addresses(replace(config, scan_layers=False), "layers_{i}"))
    return {row.name: _shaped(row.name, values[row.name], row.shape) for row in declare(config)}


def _shaped(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.shape == shape:
        return value
    if "/qkv_proj/" in name and 3 in value.shape[:2] and math.prod(value.shape) == math.prod(shape):
        return value.reshape(shape)
    raise BridgeError(f"{name} has shape {value.shape}, the configuration says {shape}")


def _weights(folder: Path, config: ModelConfig) -> tuple[dict[str, np.ndarray], list[str]]:
    """Weights by neutral name, all in the widest dtype that the configuration or the checkpoint has, and notes.

    MaxText stores some leaves in float32 whatever weight_dtype says (an initial query kernel, gpt3's norms), and
    widening changes no number.
    """
    places = [folder / "checkpoint", folder]
    canonical = canonicalise(read_arrays(locate(next((place for place in places if place.is_dir()), folder))))
    arrays = {path: leaf for path, leaf in canonical.weights.items() if isinstance(leaf, np.ndarray)}
    values, notes = neutral(arrays, config, config.param_scan_axis), [f"checkpoint: {n}" for n in canonical.notes]
    wide = "float32" if config.weight_dtype == "float32" else _widest(values)
    other = [name for name, value in values.items() if str(value.dtype) != config.weight_dtype]
    if other:
        notes.append(
            f"{len(other)} of {len(values)} weights are stored as {values[other[0]].dtype}, weight_dtype is "
            f"{config.weight_dtype}: all were taken as {wide}; {other[0]} is the first"
        )
    return {name: value.astype(wide) for name, value in values.items()}, notes


def _widest(values: Mapping[str, np.ndarray]) -> str:
    """bfloat16 if all are, else float32. Raises ReferenceFolderError for dtypes that no side computes in."""
    kinds = {str(value.dtype) for value in values.values()}
    if kinds - {"bfloat16", "float32"}:
        raise ReferenceFolderError(f"weights are stored as {sorted(kinds)}: only bfloat16 and float32 can be taken")
    return "bfloat16" if kinds == {"bfloat16"} else "float32"


def _variants(folder: Path, config: ModelConfig) -> tuple[Variant, ...]:
    inputs, logits = _arrays(folder / "inputs.npz"), _arrays(folder / "logits.npz")
    gradients, scalars = _arrays(folder / "grads.npz"), _json(folder / "loss.json").get("scalars", {})
    names = sorted({key.split("/")[0] for key in inputs if key.endswith("/inputs")})
    claimed = {key.split("/")[0] for key in (*logits, *gradients, *scalars)}
    if not names or claimed - set(names):
        raise ReferenceFolderError(
            f"{folder / 'inputs.npz'}: has inputs for {names}, the other files have numbers for {sorted(claimed)}: "
            "every variant needs <variant>/inputs"
        )
    batches = {name: _batch(folder, name, inputs, config) for name in names}
    for name, found in logits.items():
        wanted = (*batches[name].tokens.shape, config.vocab_size)
        if found.shape != wanted:
            raise ReferenceFolderError(
                f"{folder / 'logits.npz'}: logits of {name} have shape {found.shape}, the inputs and the vocabulary "
                f"ask for {wanted}"
            )
    return tuple(
        Variant(
            name=name,
            batch=batches[name],
            logits=logits.get(name),
            terms=scalars.get(name, {}),
            gradients=_gradients(name, gradients, config),
        )
        for name in names
    )


def _batch(folder: Path, name: str, inputs: Mapping[str, np.ndarray], config: ModelConfig) -> Batch:
    absent = [field for field in FIELDS if f"{name}/{field}" not in inputs]
    if absent:
        raise ReferenceFolderError(f"{folder / 'inputs.npz'}: {name} lacks {', '.join(absent)}")
    batch = Batch(*[inputs[f"{name}/{field}"].astype(np.int32) for field in FIELDS])
    for field, values in (("inputs", batch.tokens), ("targets", batch.targets)):
        # A gather clamps what lies outside, and the comparison would go on without a word.
        if values.size and (values.min() < 0 or values.max() >= config.vocab_size):
            raise ReferenceFolderError(
                f"{folder / 'inputs.npz'}: {name}/{field} has tokens from {values.min()} to {values.max()}, "
                f"the vocabulary has {config.vocab_size}"
            )
    return batch


def _gradients(name: str, arrays: Mapping[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
    leaves = {tuple(key.split("/")[1:]): value for key, value in arrays.items() if key.startswith(f"{name}/")}
    return neutral(leaves, config, config.param_scan_axis) if leaves else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ReferenceFolderError(f"{path}: cannot be read ({problem})") from problem
    if not isinstance(content, dict):
        raise ReferenceFolderError(f"{path}: holds a {type(content).__name__}, expected keys and values")
    return content


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as problem:
        raise ReferenceFolderError(f"{path}: cannot be read ({problem})") from problem
    # NumPy writes bfloat16 as two bytes without a meaning.
    return {key: value.view(ml_dtypes.bfloat16) if value.dtype == "V2" else value for key, value in found.items()}
