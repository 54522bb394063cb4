"""From a mapping of MaxText's keys to a ModelConfig, with an account of every key that was not taken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impl.config import BLOCKS, ConfigError, ModelConfig
from impl.maxtext.files import read_mapping
from impl.maxtext.keys import (
    BLOCKS_ELSEWHERE,
    DEFAULTS,
    EXPERTS_OF_MLP_DIM,
    EXPERTS_ONLY,
    MIXTURES,
    NEUTRAL,
    OF_NO_MATTER,
    READ_BY,
    SCALED,
)
from impl.maxtext.quirks import quirks
from impl.maxtext.values import number, typed
from impl.names import nearest
from impl.validation import REMAT_POLICIES

__all__ = ["Ignored", "Reading", "from_maxtext", "read", "read_maxtext"]

_WIDENING = {"activations_in_float32": "activations", "logits_dot_in_fp32": "the head"}
"""Keys that compute one thing in float32: they change nothing where everything is."""


@dataclass(frozen=True)
class Ignored:
    """A key of the file that the model does not depend on, its value as text, and why."""

    key: str
    value: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """The model that a file describes, and the keys that do not describe it, in the file's order."""

    config: ModelConfig
    ignored: tuple[Ignored, ...]


def from_maxtext(mapping: Mapping[str, Any]) -> ModelConfig:
    """The model of MaxText's keys, base_* or resolved. `read` also says which keys were of no matter."""
    return read(mapping).config


def read_maxtext(path: Path) -> ModelConfig:
    """The model of a file: models/*.yml, or the JSON of a resolved configuration. The file's name is the model's."""
    path = Path(path)
    content = read_mapping(path, "one of MaxText's model files")
    model = content.get("model", content)
    if not isinstance(model, dict):
        raise ConfigError(f"{path}: 'model' is {model!r}, expected keys and values")
    return from_maxtext({"model_name": path.stem, **model})


def read(mapping: Mapping[str, Any]) -> Reading:
    """The model and the account. Raises ConfigError for what does not exist here, and for a key that nobody knows."""
    _refuse_block(mapping)
    _refuse_foreign(mapping)
    values = {key: mapping.get(key, default) for key, default in DEFAULTS.items()}
    block = values["decoder_block"]
    values |= {name: _size(mapping, name) for name in SCALED if block in READ_BY.get(name, (block,))}
    settings = {key: typed(key, value) for key, value in quirks(mapping, values).items()}
    config = ModelConfig(**{"name": str(mapping.get("model_name", "maxtext")), **settings})
    return Reading(config=config, ignored=_account(mapping, config))


def _refuse_block(mapping: Mapping[str, Any]) -> None:
    block = mapping.get("decoder_block", DEFAULTS["decoder_block"])
    known = [name for name in BLOCKS if name not in BLOCKS_ELSEWHERE]
    if block in known:
        return
    raise ConfigError(
        f"decoder_block {block!r} does not exist here"
        f"{'' if str(block) in BLOCKS_ELSEWHERE else ', nor in MaxText'}: there are {', '.join(known)}"
    )


def _refuse_foreign(mapping: Mapping[str, Any]) -> None:
    """Raises ConfigError for every value that shapes a model in a way that does not exist here, and unknown keys."""
    problems, block = [], mapping.get("decoder_block", "llama2")
    neutral = {key: NEUTRAL[key] for key in NEUTRAL if block not in READ_BY.get(key, ())}
    neutral |= EXPERTS_ONLY if block in MIXTURES else {}
    for key, value in mapping.items():
        plain = tuple(value) if isinstance(value, list) else value
        if key in neutral and plain not in neutral[key][0]:
            allowed, words = neutral[key]
            problems.append(f"{key}={value!r}: {words}; only {allowed[0]!r} can be read")
        if key in _WIDENING and value and mapping.get("dtype", DEFAULTS["dtype"]) != "float32":
            problems.append(f"{key}={value!r}: {_WIDENING[key]} computes in dtype here; set dtype to float32")
        if not (_taken(key) or _why_ignored(key)):
            problems.append(nearest(f"{key}: unknown, and might shape the model", key, _known()))
    positions = mapping.get("trainable_position_size", -1)
    if block != "gpt3" and number(positions) > 0:
        problems.append(f"trainable_position_size={positions}: {block} turns its heads as well there, not here; use -1")
    local, shared = mapping.get("local_rope_max_timescale", -1), mapping.get("rope_max_timescale", 10_000)
    if block == "gemma2" and number(local) > 0 and number(local) != number(shared):
        problems.append(f"local_rope_max_timescale={local}: local and global layers share one rotation here; use -1")
    score = mapping.get("routed_score_func", "")
    if block in MIXTURES - {"deepseek"} and mapping.get("routed_bias") and score:
        problems.append(
            f"routed_score_func={score!r} with routed_bias: {block} adds its bias to scores there, here to logits"
        )
    kind = mapping.get("attention_type", "mla")
    if block == "deepseek" and kind != "mla":
        problems.append(f"attention_type={kind!r}: deepseek's layers attend through latents there; use 'mla'")
    if problems:
        raise ConfigError("; ".join(problems))


def _known() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*DEFAULTS, *(f"base_{name}" for name in SCALED), *NEUTRAL, *READ_BY)))


def _taken(key: str) -> bool:
    return key in (*DEFAULTS, "global_parameter_scale", "model_name") or key.removeprefix("base_") in SCALED


def _why_ignored(key: str) -> str:
    """Why a key that is not taken is of no matter; "" when nobody knows."""
    if key in NEUTRAL or key in _WIDENING:
        return "its value changes nothing"
    if key in READ_BY:
        return "no decoder block that exists here reads it"
    return next((why for pattern, why in OF_NO_MATTER if re.fullmatch(pattern, key)), "")


def _size(mapping: Mapping[str, Any], name: str) -> Any:
    """A size: resolved where the file has it, else the base size, which global_parameter_scale must leave alone."""
    base, scale = mapping.get(f"base_{name}", DEFAULTS[name]), mapping.get("global_parameter_scale", 1)
    if name in mapping:
        if scale == 1 and f"base_{name}" in mapping and mapping[name] != base:
            raise ConfigError(f"{name}={mapping[name]!r} and base_{name}={base!r} differ at scale 1: keep one of them")
        return mapping[name]
    if scale != 1:
        raise ConfigError(f"global_parameter_scale={scale!r} needs resolved sizes: give {name} beside base_{name}")
    return base


def _account(mapping: Mapping[str, Any], config: ModelConfig) -> tuple[Ignored, ...]:
    """Every key of the file that the model does not depend on, with the reason."""
    rows = []
    for key, value in mapping.items():
        reason = _why_ignored(key) if not _taken(key) else ""
        if key in READ_BY and config.decoder_block not in READ_BY[key]:
            reason = f"{config.decoder_block} does not read it"
        if key in ("n_routing_groups", "topk_routing_group") and not config.n_routing_groups:
            reason = reason or "only models whose name begins with deepseek3 have groups, and only where there are any"
        if key in ("moe_mlp_dim", "base_moe_mlp_dim") and config.decoder_block in EXPERTS_OF_MLP_DIM:
            reason = f"{config.decoder_block}'s experts are as wide as mlp_dim says"
        if key in ("normalize_embedding_logits", "final_logits_soft_cap") and not config.logits_via_embedding:
            reason = "only a tied head reads it"
        if key == "remat_policy" and value not in REMAT_POLICIES:
            reason = "no such policy here; full recomputation gives the same numbers"
        if reason:
            rows.append(Ignored(key, json.dumps(value, default=str), reason))
    return tuple(rows)
