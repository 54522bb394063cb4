"""What went in and out of every module while a program ran, in the order in which it ran; and values put in its place.

An array is watched by an identity that calls back, on its way forward and, its cotangent, on its way back. The callback
returns the value that goes on: the same one, or another side's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["STREAMS", "Arrays", "Arrival", "Call", "Place", "Stream", "Tape"]

Stream = Literal["arguments", "output", "output back", "arguments back"]
"""The four ways on which values pass a module's border; "back" are cotangents."""

STREAMS: tuple[Stream, ...] = ("arguments", "output", "output back", "arguments back")

Arrays = tuple[np.ndarray, ...]
Place = tuple[tuple[str, ...], str]
"""Path of a module, layers_2 spelled ("layers", "2"), and the name of its method."""

Reply = Callable[[Place, Stream, Arrays], Arrays]


@dataclass(frozen=True)
class Call:
    """A call that was traced. parent: number of the call from within which it was made, -1 outside of all."""

    place: Place
    path: tuple[str, ...]
    kind: str
    parent: int


@dataclass(frozen=True)
class Arrival:
    """Values that arrived while the program ran, before anything was put in their place.

    at: how many had arrived before at that place and stream. time: how many at all.
    """

    call: int
    values: Arrays
    at: int
    time: int


def _as_it_is(_place: Place, _stream: Stream, values: Arrays) -> Arrays:
    return values


@dataclass(kw_only=True)
class Tape:
    """A recording. reply: what goes on instead of what arrived. places: only these are watched; None means all."""

    reply: Reply = _as_it_is
    places: frozenset[Place] | None = None
    calls: list[Call] = field(default_factory=list)
    arrivals: dict[tuple[Place, Stream], list[Arrival]] = field(default_factory=dict)
    count: int = 0

    def watches(self, place: Place) -> bool:
        """Whether the arrays of `place` are watched."""
        return self.places is None or place in self.places

    def through(self, call: int, stream: Literal["arguments", "output"], leaves: Sequence[Any]) -> list[Any]:
        """The same arrays, watched both ways."""
        back: Stream = "arguments back" if stream == "arguments" else "output back"

        @jax.custom_vjp
        def same(*leaves: Any) -> Any:
            return self._called(call, stream, leaves)

        def there(*leaves: Any) -> Any:
            return self._called(call, stream, leaves), None

        def home(_: None, cotangents: Any) -> Any:
            real = [each for each in cotangents if each.dtype != jax.dtypes.float0]
            found = iter(self._called(call, back, real) if real else ())
            return tuple(each if each.dtype == jax.dtypes.float0 else next(found) for each in cotangents)

        same.defvjp(there, home)
        return list(same(*leaves))

    def _called(self, call: int, stream: Stream, leaves: Sequence[Any]) -> tuple[Any, ...]:
        shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        arrived = partial(self._arrived, call, stream)
        return tuple(jax.pure_callback(arrived, shapes, *leaves, vmap_method="sequential"))

    def _arrived(self, call: int, stream: Stream, *leaves: Any) -> Arrays:
        values = tuple(np.array(leaf) for leaf in leaves)
        place = self.calls[call].place
        here = self.arrivals.setdefault((place, stream), [])
        here.append(Arrival(call, values, len(here), self.count))
        self.count += 1
        return self.reply(place, stream, values)
