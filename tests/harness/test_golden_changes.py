"""What a reviewer reads: the difference that accepting would make, and the state of every golden."""

from dataclasses import replace

import numpy as np
import pytest

from harness.golden import (
    accept,
    diff,
    pending,
    status,
)
from harness.golden.entry import entry_of
from tests.harness.accepted_goldens import (
    DIGEST,
    KEY,
    LARGE,
    NAME,
    at_a_desk,
    changed,
    channels,
    store,
)
from tests.harness.fabricate import ENVIRONMENT, failed, generic, observation

_desk = pytest.fixture(autouse=True)(at_a_desk)


def test_diff_says_what_would_change(tmp_path):
    digests = {"a": "1a" * 32, "b": "2b" * 32}
    assert diff(tmp_path, NAME) == ["llama2: nothing is pending: run `harness golden regenerate --scenario llama2`"]
    pending(tmp_path, NAME, {key: (observation(channels()), digest) for key, digest in digests.items()}, digests)
    lines = diff(tmp_path, NAME)
    assert "no accepted golden to compare with" in lines[0]
    assert lines[1:] == [
        f"llama2/{key}: new, arrays: structure 2, claims 1, outputs 9, updates 1, extra 1" for key in ("a", "b")
    ]
    accept(tmp_path, NAME)
    logits, large = generic((3, 5)), generic(LARGE, seed=3)
    logits[1, 2] += 0.25
    seen = changed("outputs", "logits", logits, changed("updates", "layers/0/w", large * np.float32(2)))
    seen = changed("outputs", "new", generic((2,)), seen)
    outputs = {name: value for name, value in seen.channels["outputs"].items() if name != "tiny"}
    environment = replace(ENVIRONMENT, jax="0.12.0")
    seen = replace(seen, channels={**seen.channels, "outputs": outputs}, environment=environment, notes=("warm",))
    current = {"a": "9a" * 32, "c": "3c" * 32}
    pending(tmp_path, NAME, {"a": (seen, current["a"]), "c": (seen, current["c"])}, current)
    old, new = entry_of(generic((3, 5))), entry_of(logits)
    lines = diff(tmp_path, NAME)
    assert lines[:3] == [
        "llama2/a: the case changed: digest 1a1a1a1a1a1a… -> 9a9a9a9a9a9a…",
        "llama2/a: environment jax: 0.10.2 -> 0.12.0",
        "llama2/a: notes: [] -> ['warm']",
    ]
    assert lines[3] == (
        f"llama2/a: outputs/logits: float32[3, 5] {old.sha256} min {old.low} max {old.high} mean {old.mean}"
        f" -> float32[3, 5] {new.sha256} min {new.low} max {new.high} mean {new.mean}"
        f", max change 0.25 (relative {0.25 / max(abs(logits[1, 2]), abs(logits[1, 2] - 0.25)):.3g}) at [1, 2]"
    )
    assert lines[4].startswith("llama2/a: outputs/tiny: gone, was float8_e4m3fn[2, 3]")
    assert lines[5].startswith("llama2/a: outputs/new: new, float32[2]")
    assert lines[6].startswith("llama2/a: updates/layers/0/w: float32[72, 61]")
    assert "(sampled), max change" in lines[6]
    assert lines[7] == "llama2/b: gone, the scenario no longer has this case"
    assert lines[8].startswith("llama2/c: new, arrays: ")
    assert len(lines) == 9


def test_diff_of_equal_bytes_and_of_a_broken_candidate(tmp_path):
    store(tmp_path)
    _, body = pending(tmp_path, NAME, {KEY: (observation(channels()), DIGEST)}, {KEY: DIGEST})
    assert diff(tmp_path, NAME) == ["llama2: nothing changes"]
    body.write_bytes(body.read_bytes()[:-1])
    assert diff(tmp_path, NAME)[0].startswith("llama2: the pending golden cannot be read")


def test_diff_shows_errors_that_come_and_go(tmp_path):
    store(tmp_path)
    pending(tmp_path, NAME, {KEY: (failed(observation(channels()), "ValueError", "bad axis"), DIGEST)}, {KEY: DIGEST})
    assert f"llama2/{KEY}: error, none ->, ValueError: bad axis" in diff(tmp_path, NAME)


def test_status_knows_every_state(tmp_path):
    scenarios = {}
    for name in ("fresh", "stale", "part", "broken", "shrunk", "orphaned"):
        cases = {"a": DIGEST, "b": DIGEST}
        pending(tmp_path, name, {key: (observation({"loss": {"t": 1.5}}), DIGEST) for key in cases}, cases)
        accept(tmp_path, name)
        scenarios[name] = cases
    scenarios |= {
        "stale": {"a": "e2", "b": DIGEST},
        "part": {"a": DIGEST, "b": DIGEST, "c": DIGEST},
        "none": {"a": "f3"},
    }
    scenarios["shrunk"] = {"a": DIGEST}
    del scenarios["orphaned"]
    pending(tmp_path, "none", {"a": (observation({"loss": {"t": 1.5}}), "f3")}, {"a": "f3"})
    (tmp_path / "broken.npz").write_bytes(b"zip")
    rows = {(row.scenario, row.state): row.detail for row in status(tmp_path, scenarios)}
    assert set(rows) == {
        ("fresh", "fresh"),
        ("stale", "stale"),
        ("part", "missing"),
        ("broken", "tampered"),
        ("none", "missing"),
        ("none", "pending"),
        ("shrunk", "fresh"),
        ("shrunk", "orphan"),
        ("orphaned", "orphan"),
    }
    assert rows["stale", "stale"] == "a has changed"
    assert rows["part", "missing"] == "no golden for c"
    assert rows["shrunk", "orphan"] == "its case b is no more"
