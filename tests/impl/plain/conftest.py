"""Both sides on every case, compiled once and without optimisation, which halves the time and changes no formula."""

from __future__ import annotations

import functools
from contextlib import contextmanager

import jax
import pytest

from impl.sides import side
from tests.impl.plain.cases import CASES, SETTINGS


@contextmanager
def compiled_quickly():
    """Affects only what trainers compile inside, which is theirs: no other test of this process meets it."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@functools.cache
def _trainer(name, which):
    case = CASES[name]
    with compiled_quickly():
        return side(which).Trainer(case.config, SETTINGS, case.weights)


@functools.cache
def _logits(name, which):
    with compiled_quickly():
        return _trainer(name, which).logits(CASES[name].batch)


@functools.cache
def _gradients(name, which):
    with compiled_quickly():
        return _trainer(name, which).gradients(CASES[name].batch)


@pytest.fixture(scope="session")
def quickly():
    """A context in which compiling takes half the time."""
    return compiled_quickly


@pytest.fixture(scope="session")
def logits_of():
    """(case, side) -> float32 logits."""
    return _logits


@pytest.fixture(scope="session")
def gradients_of():
    """(case, side) -> gradients by neutral name, and loss terms."""
    return _gradients
