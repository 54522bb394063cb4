"""Captured module outputs -> neutral module paths, one entry per layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from impl.config import ModelConfig
from impl.stacks import Place, places

__all__ = ["neutral_taps"]

Path = tuple[str, ...]


def neutral_taps(captured: Mapping[Path, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """Paths that end in ("__call__", index), as both frameworks capture them -> module path -> output.

    Scanned layers are taken apart; "layers_2" is spelled "layers/2"; the root is "model". The order stays, a group's
    modules being listed layer by layer. A module that only holds several layers yields what its last one does, and is
    left out.
    """
    found = {path[:-2]: np.asarray(leaf) for path, leaf in captured.items() if path[-2:] == ("__call__", "0")}
    order = places(config)
    roots = {path for place in order for path in _paths(place)}
    owner = {path: next((path[:end] for end in (4, 3, 2) if path[:end] in roots), ()) for path in found}
    inside: dict[Path, list[Path]] = {}
    for path in found:
        inside.setdefault(owner[path], []).append(path)
    result: dict[str, np.ndarray] = {}
    for path, value in found.items():
        if not owner[path]:
            if not any(len(root) > 2 and root[:-1] == path for root in roots):
                result["/".join(path) or "model"] = value
        elif path == inside[owner[path]][0]:
            group = next(place.group for place in order if owner[path] in _paths(place))
            for place in order:
                if place.group == group:
                    result.update(_of_layer(place, inside, found))
    return result


def _paths(place: Place) -> tuple[Path, ...]:
    return place.path("layers_{i}"), place.path("layers/{i}")


def _of_layer(place: Place, inside: Mapping[Path, list[Path]], found: Mapping[Path, Any]) -> dict[str, np.ndarray]:
    """One layer's outputs by neutral name, taken out of its stack."""
    root = next(path for path in _paths(place) if path in inside)
    stacked = place.group.form == "scanned"
    return {
        "/".join((place.name, *path[len(root) :])): found[path][place.index] if stacked else found[path]
        for path in inside[root]
    }
