"""The one way onto disk: pending, then accept, byte for byte."""

import os

import numpy as np
import pytest

from harness.golden import (
    GoldenError,
    Missing,
    Tampered,
    accept,
    drift_from,
    load,
    pending,
)
from tests.harness.accepted_goldens import (
    DIGEST,
    KEY,
    NAME,
    at_a_desk,
    bytes_of,
    changed,
    channels,
    fresh,
    store,
)
from tests.harness.fabricate import observation

_desk = pytest.fixture(autouse=True)(at_a_desk)


def test_pending_touches_no_golden_and_accept_moves_the_same_bytes(tmp_path):
    store(tmp_path)
    before = bytes_of(tmp_path)
    aside = pending(
        tmp_path, NAME, {KEY: (changed("loss", "total", 2.5, observation({"loss": {}})), DIGEST)}, {KEY: DIGEST}
    )
    candidate = [path.read_bytes() for path in aside]
    assert bytes_of(tmp_path) == before
    assert [path.read_bytes() for path in accept(tmp_path, NAME)] == candidate
    assert list((tmp_path / ".pending").iterdir()) == []


def test_cases_that_were_not_run_are_carried_over_while_they_are_valid(tmp_path):
    digests = {"a": "1a" * 32, "b": "2b" * 32, "c": "3c" * 32, "d": "4d" * 32}
    seen = {key: (observation(channels()), digest) for key, digest in digests.items()}
    pending(tmp_path, NAME, seen, digests)
    accept(tmp_path, NAME)
    current = {"a": digests["a"], "b": "9b" * 32, "c": digests["c"]}
    new = changed("outputs", "tokens", np.array([5, 6, 7, 8], np.int32))
    pending(tmp_path, NAME, {"c": (new, digests["c"])}, current)
    accept(tmp_path, NAME)
    assert drift_from(fresh(tmp_path, "a", digests["a"]), observation(channels())).differences == ()
    assert drift_from(fresh(tmp_path, "c", digests["c"]), new).differences == ()
    assert isinstance(load(tmp_path, NAME, "b", digests["b"]), Missing)
    assert isinstance(load(tmp_path, NAME, "d", digests["d"]), Missing)


def test_nothing_is_carried_over_from_a_tampered_golden(tmp_path):
    digests = {"a": "1a" * 32, "b": "2b" * 32}
    pending(tmp_path, NAME, {key: (observation(channels()), digest) for key, digest in digests.items()}, digests)
    _, body = accept(tmp_path, NAME)
    body.write_bytes(body.read_bytes()[:-1])
    pending(tmp_path, NAME, {"a": (observation(channels()), digests["a"])}, digests)
    accept(tmp_path, NAME)
    assert isinstance(load(tmp_path, NAME, "b", digests["b"]), Missing)


@pytest.mark.parametrize("key", ["a/b", "unheard-of"])
def test_a_key_that_is_none_is_refused(tmp_path, key):
    with pytest.raises(GoldenError, match="is no golden key of scenario 'llama2'"):
        pending(tmp_path, NAME, {key: (observation(channels()), DIGEST)}, {KEY: DIGEST, "a/b": DIGEST})


def test_an_array_that_only_pickle_could_hold_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="outputs/tokens of linen cannot be a golden"):
        store(tmp_path, changed("outputs", "tokens", np.array([{}], object)))


def test_accept_refuses_when_nothing_is_pending(tmp_path):
    with pytest.raises(GoldenError, match="nothing is pending for scenario 'llama2'"):
        accept(tmp_path, NAME)


@pytest.mark.parametrize(
    ("variable", "value"), [("PYTEST_XDIST_WORKER", "gw1"), ("CI", "true"), ("CI", "True"), ("CI", "1")]
)
def test_accept_refuses_without_a_reader(tmp_path, monkeypatch, variable, value):
    pending(tmp_path, NAME, {KEY: (observation(channels()), DIGEST)}, {KEY: DIGEST})
    monkeypatch.setenv(variable, value)
    with pytest.raises(GoldenError, match="goldens are not accepted"):
        accept(tmp_path, NAME)
    assert bytes_of(tmp_path) == {}


def test_accept_refuses_a_candidate_that_was_edited(tmp_path):
    header, _ = pending(tmp_path, NAME, {KEY: (observation(channels()), DIGEST)}, {KEY: DIGEST})
    header.write_text(header.read_text().replace('"who": "linen"', '"who": "nnx"'))
    with pytest.raises(GoldenError, match="the header was edited"):
        accept(tmp_path, NAME)
    assert bytes_of(tmp_path) == {}


def fail_at(monkeypatch, count):
    """Lets os.replace fail the count-th time that it is called."""
    real, calls = os.replace, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == count:
            raise OSError("the disk went away")
        real(source, target)

    monkeypatch.setattr(os, "replace", failing)


@pytest.mark.parametrize("count", [1, 2])
def test_an_interrupted_write_leaves_the_golden_and_no_litter(tmp_path, monkeypatch, count):
    store(tmp_path)
    before = bytes_of(tmp_path)
    with monkeypatch.context() as patch:
        fail_at(patch, count)
        with pytest.raises(OSError, match="went away"):
            pending(tmp_path, NAME, {KEY: (observation({"loss": {"total": 2.5}}), DIGEST)}, {KEY: DIGEST})
    assert bytes_of(tmp_path) == before
    assert [path.name for path in (tmp_path / ".pending").iterdir() if path.suffix == ".part"] == []


def test_an_interrupted_accept_leaves_the_old_golden_or_can_be_finished(tmp_path, monkeypatch):
    store(tmp_path)
    before = bytes_of(tmp_path)
    new = observation({"loss": {"total": np.float32(2.5)}})
    pending(tmp_path, NAME, {KEY: (new, DIGEST)}, {KEY: DIGEST})
    with monkeypatch.context() as patch:
        fail_at(patch, 1)
        with pytest.raises(OSError, match="went away"):
            accept(tmp_path, NAME)
    assert bytes_of(tmp_path) == before
    with monkeypatch.context() as patch:
        fail_at(patch, 2)
        with pytest.raises(OSError, match="went away"):
            accept(tmp_path, NAME)
    assert isinstance(load(tmp_path, NAME, KEY, DIGEST), Tampered)
    accept(tmp_path, NAME)
    assert drift_from(fresh(tmp_path), new).differences == ()
