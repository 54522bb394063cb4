"""Captured module outputs -> neutral module paths, one entry per layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from impl.config import ModelConfig

__all__ = ["neutral_taps"]

_STACK = ("decoder", "layers")


def neutral_taps(captured: Mapping[tuple[str, ...], Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """Paths that end in ("__call__", index), as both frameworks capture them -> module path -> output.

    Scanned layers are taken apart; "layers_2" is spelled "layers/2"; the root is "model". The order stays, a stack's
    modules being listed layer by layer.
    """
    found = {path[:-2]: np.asarray(leaf) for path, leaf in captured.items() if path[-2:] == ("__call__", "0")}
    inside = [path for path in found if path[:2] == _STACK] if config.scan_layers else []
    result: dict[str, np.ndarray] = {}
    for path, value in found.items():
        if path not in inside:
            result[_spelled(path)] = value
        elif path == inside[0]:
            for layer in range(config.num_decoder_layers):
                result.update({_spelled((*_STACK, str(layer), *part[2:])): found[part][layer] for part in inside})
    return result


def _spelled(path: tuple[str, ...]) -> str:
    return re.sub(r"^decoder/layers_(\d+)", r"decoder/layers/\1", "/".join(path)) or "model"
