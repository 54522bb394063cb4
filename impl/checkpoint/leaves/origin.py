"""Where the bytes of a leaf come from, when the leaf itself is not read: a stored array, a layer of one, or a stack.

`take_layer` and `stack_leaves` build these as they move descriptions of leaves about, so that whatever rearranges a
tree rearranges the way to its bytes with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Layer", "Origin", "Stack", "Stored", "show_origin", "stored_names"]


@dataclass(frozen=True, slots=True)
class Stored:
    """The array that the source's store calls `name`, as it is."""

    name: str


@dataclass(frozen=True, slots=True)
class Layer:
    """Layer `index` of another origin along `axis`, without that axis."""

    of: Origin
    index: int
    axis: int


@dataclass(frozen=True, slots=True)
class Stack:
    """Several origins of one shape as the layers of a new `axis`."""

    of: tuple[Origin, ...]
    axis: int


Origin = Stored | Layer | Stack


def stored_names(origin: Origin) -> Iterator[str]:
    """Names of the stored arrays that `origin` is made of, in order."""
    if isinstance(origin, Stored):
        yield origin.name
    elif isinstance(origin, Layer):
        yield from stored_names(origin.of)
    else:
        for part in origin.of:
            yield from stored_names(part)


def show_origin(origin: Origin) -> str:
    """`origin` in words: "a.b", "layer 3 of a.b (axis 1)", "a.b and 4 others stacked at axis 0"."""
    if isinstance(origin, Stored):
        return origin.name
    if isinstance(origin, Layer):
        return f"layer {origin.index} of {show_origin(origin.of)} (axis {origin.axis})"
    return f"{show_origin(origin.of[0])} and {len(origin.of) - 1} others stacked at axis {origin.axis}"
