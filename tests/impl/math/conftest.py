"""The bounds are those of float32 arithmetic, so matrix products must not use a shorter format."""

from __future__ import annotations

import jax
import pytest


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield
