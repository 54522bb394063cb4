"""What the tests of goldens share: an observation of every kind of value, accepted into a folder."""

from dataclasses import replace

import ml_dtypes
import numpy as np

from harness.golden import (
    Loaded,
    accept,
    load,
    pending,
)
from tests.harness.fabricate import generic, observation

__all__ = ["DIGEST", "KEY", "LARGE", "NAME", "at_a_desk", "bytes_of", "changed", "channels", "fresh", "store"]

DIGEST = "d1" * 32
KEY = "llama2-scan0"
NAME = "llama2"
LARGE = (72, 61)


def at_a_desk(monkeypatch):
    """Takes away what makes accept refuse: a fixture for modules that accept."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def channels():
    odd = np.array([np.nan, 1.5, -np.inf, -0.0], np.float32)
    return {
        "structure": {"shape": np.array(["(3, 5) float32", "µ → naïve"]), "sha256": np.array("x")},
        "claims": {"masks differ": np.array(True)},
        "outputs": {
            "logits": generic((3, 5)),
            "half": generic((7,), ml_dtypes.bfloat16),
            "tiny": generic((2, 3), ml_dtypes.float8_e4m3fn),
            "other": generic((2, 3), ml_dtypes.float8_e5m2),
            "tokens": generic((4,), np.int32),
            "wide": generic((3,), np.float64),
            "odd": odd,
            "none": np.empty((0, 3), np.float32),
            "phase": np.array([1.5 - 2j, 3j], np.complex64),
        },
        "updates": {"layers/0/w": generic(LARGE, seed=3)},
        "extra": {"z": np.array(2**63 + 5, np.uint64)},
    }


def changed(channel, name, value, seen=None):
    seen = seen or observation(channels())
    return replace(seen, channels={**seen.channels, channel: {**seen.channels[channel], name: np.asarray(value)}})


def store(folder, seen=None, key=KEY, digest=DIGEST):
    pending(folder, NAME, {key: (seen or observation(channels()), digest)}, {key: digest})
    return accept(folder, NAME)


def fresh(folder, key=KEY, digest=DIGEST):
    found = load(folder, NAME, key, digest)
    assert isinstance(found, Loaded), found
    return found


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.*")) if path.is_file()}
