"""Random draws of a run: recorded by place and key, and replayed with the keys of another run.

Linen derives a key from a module's path and how often it asked, NNX from a stream and its count, so two honest sides
drop different units. The keys with which one side draws can be put in the place of the other's: then dropout is
compared bit by bit, also inside scan and remat, and over several steps.

What is watched are calls of `jax.random`'s distributions as `jax.random.<name>(key, ...)`, which is how Flax's own
layers call them. Initializers call others, and are left alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["WATCHED", "Draws", "Place", "paired", "recorded", "replayed", "unwatched"]

WATCHED = (
    *("bernoulli", "beta", "binomial", "bits", "categorical", "cauchy", "choice", "exponential", "gamma", "gumbel"),
    *("laplace", "logistic", "multivariate_normal", "normal", "permutation", "poisson", "rademacher", "randint", "t"),
    *("truncated_normal", "uniform"),
)
"""Functions of jax.random that draw from a key."""

LIBRARIES = ("flax", "jax", "jaxlib", "harness")
_LOOKING = ContextVar("looking", default=True)


@dataclass(kw_only=True)
class Place:
    """A call that was traced. what: the distribution. where: file and line of the code base's own frame.

    keys: the key data, as bytes, with which it drew while it ran: each once, in the order of their first use.
    """

    what: str
    where: str
    keys: dict[bytes, None] = field(default_factory=dict)


@dataclass(kw_only=True)
class Draws:
    """The places of a run, in the order in which they were traced; those that never ran have no keys."""

    places: list[Place] = field(default_factory=list)

    @property
    def ran(self) -> list[Place]:
        """The places that drew."""
        return [place for place in self.places if place.keys]


@contextlib.contextmanager
def recorded() -> Iterator[Draws]:
    """Records every draw made inside. Adds a callback to what is compiled, which may round in another order then."""
    draws = Draws()

    def probe(what: str, key: jax.Array) -> jax.Array:
        place = Place(what=what, where=_where())
        draws.places.append(place)
        data = _data(key)
        # Pure, and the key used is the one that comes back: an effect would tie Linen's scan to its first iteration.
        same = jax.ShapeDtypeStruct(data.shape, data.dtype)
        return _like(key, jax.pure_callback(partial(_arrived, place), same, data, vmap_method="sequential"))

    with _watching(probe):
        yield draws


@contextlib.contextmanager
def replayed(keys: Mapping[bytes, bytes]) -> Iterator[None]:
    """Inside, whatever would draw with a key of `keys` draws with the one that it stands for."""
    own, other = (np.stack([np.frombuffer(key, np.uint32) for key in side]) for side in _columns(keys))

    def probe(what: str, key: jax.Array) -> jax.Array:
        data = _data(key)
        found = jnp.all(own == data.reshape(-1), axis=1)
        new = jnp.where(jnp.any(found), jnp.asarray(other)[jnp.argmax(found)], data.reshape(-1)).reshape(data.shape)
        return _like(key, new)

    with _watching(probe):
        yield


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Inside, draws are neither recorded nor replayed: those of a module that is being made, whose weights go."""
    token = _LOOKING.set(False)
    try:
        yield
    finally:
        _LOOKING.reset(token)


def paired(ruler: Draws, other: Draws) -> Mapping[bytes, bytes] | str:
    """Key of `other` -> key of `ruler`, place by place and draw by draw; or a sentence on why they cannot be paired.

    Where one side has more places than the other, as layers written out have more than layers scanned, those on one
    line count as one place.
    """
    ours, theirs = ruler.ran, other.ran
    if len(ours) != len(theirs) and len(_by_line(ours)) == len(_by_line(theirs)):
        ours, theirs = _by_line(ours), _by_line(theirs)
    if not ours or not theirs:
        return f"{len(ours)} places draw on one side and {len(theirs)} on the other: nothing can be replayed"
    found: dict[bytes, bytes] = {}
    for left, right in zip(ours, theirs, strict=False):
        if left.what != right.what or len(left.keys) != len(right.keys):
            return f"{_drawn(left)} on one side, {_drawn(right)} on the other"
        for key, new in zip(right.keys, left.keys, strict=True):
            if found.setdefault(key, new) != new:
                return f"the other side draws with one key at two places, of which one is {right.where}"
    if len(ours) != len(theirs):
        first = (ours if len(ours) > len(theirs) else theirs)[min(len(ours), len(theirs))]
        return (
            f"{len(ours)} places draw on one side, {len(theirs)} on the other; the first of one only is {first.where}"
        )
    return found


def _by_line(places: Sequence[Place]) -> list[Place]:
    """Places of one distribution on one line as one, with the keys of all."""
    found: dict[tuple[str, str], Place] = {}
    for place in places:
        found.setdefault((place.what, place.where), Place(what=place.what, where=place.where)).keys.update(place.keys)
    return list(found.values())


def _drawn(place: Place) -> str:
    return f"{place.what} draws with {len(place.keys)} keys at {place.where}"


def _columns(keys: Mapping[bytes, bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    return list(keys), list(keys.values())


def _arrived(place: Place, data: Any) -> np.ndarray:
    place.keys.setdefault(np.asarray(data, np.uint32).tobytes())
    return np.asarray(data)


def _typed(key: Any) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _like(key: jax.Array, data: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key)) if _typed(key) else data


def _data(key: jax.Array) -> jax.Array:
    return jax.random.key_data(key) if _typed(key) else jnp.asarray(key)


@contextlib.contextmanager
def _watching(probe: Callable[[str, jax.Array], jax.Array]) -> Iterator[None]:
    """`probe` is handed every key before it is used, and returns the one to be used."""
    before = {name: getattr(jax.random, name) for name in WATCHED}

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(key: Any, *args: Any, **kwargs: Any) -> Any:
            # A whole array of keys, or a key that is given by name only, is left alone.
            single = hasattr(key, "dtype") and key.ndim == (0 if _typed(key) else 1)
            return function(probe(name, key) if single and _LOOKING.get() else key, *args, **kwargs)

        return call

    try:
        for name, function in before.items():
            setattr(jax.random, name, watched(name, function))
        yield
    finally:
        for name, function in before.items():
            setattr(jax.random, name, function)
        jax.clear_caches()


def _where() -> str:
    """The innermost frame that belongs to none of the libraries: file and line."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in LIBRARIES:
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "an unknown line"
