"""What a golden keeps, and how an observation is held against it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from harness.comparison import compare
from harness.golden import (
    drift_from,
)
from harness.golden.entry import SAMPLE, SAMPLE_ABOVE, entry_of, places
from tests.harness.accepted_goldens import (
    DIGEST,
    KEY,
    LARGE,
    at_a_desk,
    bytes_of,
    changed,
    channels,
    fresh,
    store,
)
from tests.harness.fabricate import ENVIRONMENT, failed, generic, observation

_desk = pytest.fixture(autouse=True)(at_a_desk)


def test_what_was_accepted_is_loaded_bit_for_bit(tmp_path):
    seen = observation(channels())
    store(tmp_path, seen)
    found = fresh(tmp_path)
    whole = replace(seen, channels={c: v for c, v in seen.channels.items() if c != "updates"})
    loaded = replace(
        found.observation, channels={c: v for c, v in found.observation.channels.items() if c != "updates"}
    )
    result = compare(loaded, whole, ())
    assert result.differences == ()
    assert result.compared == 12
    assert list(found.observation.channels) == ["structure", "claims", "outputs", "updates", "extra"]
    assert list(found.observation.channels["outputs"]) == list(seen.channels["outputs"])
    assert (found.observation.who, found.observation.environment) == ("linen", ENVIRONMENT)
    assert found.observation.attestation.own == ("impl.linen.Decoder",)
    assert found.observation.case_digest == DIGEST


def test_the_header_reads_well(tmp_path):
    header, _ = store(tmp_path)
    lines = header.read_text().splitlines()
    (logits,) = [line for line in lines if '"logits"' in line]
    value = generic((3, 5))
    entry = json.loads("{" + logits.strip().rstrip(",") + "}")["logits"]
    assert (entry["shape"], entry["dtype"], len(entry["sha256"])) == ([3, 5], "float32", 16)
    assert np.float32(entry["min"]) == value.min()
    assert np.float32(entry["max"]) == value.max()
    assert entry["mean"] == pytest.approx(value.mean(dtype=np.float64), rel=1e-8)
    assert [np.float32(x) for x in entry["first"]] == list(value[0, :3])
    (odd,) = [line for line in lines if '"odd"' in line]
    assert '"first": ["nan", 1.5, "-inf"]' in odd
    assert '"nonfinite": 2' in odd
    assert '  "case_digest"' in header.read_text()
    assert json.loads(header.read_text())["cases"][KEY]["environment"]["jax"] == "0.10.2"


def test_the_same_content_gives_the_same_bytes(tmp_path):
    store(tmp_path / "a")
    store(tmp_path / "b", replace(observation(channels()), seconds=99.0))
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert sorted(bytes_of(tmp_path / "a")) == ["llama2.json", "llama2.npz"]


def test_large_arrays_keep_an_even_sample_that_is_no_single_column(tmp_path):
    header, _ = store(tmp_path)
    found = fresh(tmp_path)
    entry = found.sampled["updates", "layers/0/w"]
    value = generic(LARGE, seed=3)
    kept = found.observation.channels["updates"]["layers/0/w"]
    assert value.size > SAMPLE_ABOVE
    assert np.array_equal(kept, value.reshape(-1)[places(value.size, SAMPLE)])
    assert (kept.shape, entry.sampled, entry.shape) == ((SAMPLE,), SAMPLE, LARGE)
    assert '"sample": 1024' in header.read_text()


@pytest.mark.parametrize("size", [SAMPLE_ABOVE + 1, 4392, 1 << 22, 10**7 + 19])
def test_a_sample_has_one_element_in_each_cell_and_is_no_single_column(size):
    found = places(size, SAMPLE)
    cells = np.arange(SAMPLE + 1) * size
    assert np.all(cells[:-1] // SAMPLE <= found)
    assert np.all(found < -(-cells[1:] // SAMPLE))
    assert np.all(np.diff(found) > 0)
    assert all(len(set((found % width).tolist())) >= 0.5 * width for width in (64, 512, 1024))


def test_an_observation_is_within_drift_of_its_own_golden(tmp_path):
    store(tmp_path)
    result = drift_from(fresh(tmp_path), observation(channels(), who="nnx"))
    assert (result.differences, result.compared) == ((), 13)


def test_drift_of_a_sampled_array_is_measured_on_the_sample(tmp_path):
    store(tmp_path)
    golden, value = fresh(tmp_path), generic(LARGE, seed=3)
    place = np.unravel_index(places(value.size, SAMPLE)[700], LARGE)
    near = drift_from(golden, changed("updates", "layers/0/w", value * np.float32(1 + 1e-6)))
    assert near.first is None
    assert len(near.differences) == 1
    far = value.copy()
    far[place] += 0.5
    first = drift_from(golden, changed("updates", "layers/0/w", far)).first
    assert (first.where, first.max_abs) == (tuple(map(int, place)), pytest.approx(0.5, rel=1e-5))


def test_a_change_outside_the_sample_is_seen_by_the_digest(tmp_path):
    store(tmp_path)
    golden, value = fresh(tmp_path), generic(LARGE, seed=3)
    outside = places(value.size, SAMPLE)[700] + 1
    value.reshape(-1)[outside] += np.float32(1e-4)
    result = drift_from(golden, changed("updates", "layers/0/w", value))
    assert [d.reason for d in result.differences] == ["value"]
    assert result.differences[0].allowed_by is not None
    assert result.channels["updates"].differing == 1
    value.reshape(-1)[outside] = 900.0
    assert "max 900.0" in drift_from(golden, changed("updates", "layers/0/w", value)).first.right
    value.reshape(-1)[outside] = np.nan
    assert drift_from(golden, changed("updates", "layers/0/w", value)).first.reason == "nonfinite"


@pytest.mark.parametrize(
    ("value", "reason"),
    [(generic((61, 72)), "shape"), (generic(LARGE, np.float64), "dtype"), (generic((3,)), "shape")],
)
def test_another_shape_or_dtype_of_a_sampled_array(tmp_path, value, reason):
    store(tmp_path)
    assert drift_from(fresh(tmp_path), changed("updates", "layers/0/w", value)).first.reason == reason


def test_sampled_integers_and_text_are_exact(tmp_path):
    values = {"count": generic(LARGE, np.int64), "names": np.arange(5000).astype("U")}
    store(tmp_path, observation({"state": values}))
    golden = fresh(tmp_path)
    assert drift_from(golden, observation({"state": values})).differences == ()
    for name, reason in (("count", "value"), ("names", "text")):
        other = values[name].copy()
        other.reshape(-1)[places(other.size, SAMPLE)[9] + 1] = values[name].reshape(-1)[0]
        result = drift_from(golden, observation({"state": {**values, name: other}}))
        assert [(d.name, d.reason, d.allowed_by) for d in result.differences] == [(name, reason, None)]


def test_sampled_names_that_are_missing_or_extra_stay_in_forward_order(tmp_path):
    values = {"b": generic(LARGE, seed=5), "a": generic((3,)), "c": generic(LARGE, seed=6)}
    store(tmp_path, observation({"updates": values}))
    seen = {"z": generic((2,)), "c": values["c"] * np.float32(1.5), "a": values["a"] * np.float32(1.5)}
    found = drift_from(fresh(tmp_path), observation({"updates": seen})).differences
    assert [(d.name, d.reason) for d in found] == [("b", "missing"), ("a", "value"), ("c", "value"), ("z", "extra")]


def test_an_accepted_error_is_held_too(tmp_path):
    broken = failed(observation(channels()), "ValueError", "no such axis")
    store(tmp_path, broken)
    golden = fresh(tmp_path)
    assert drift_from(golden, broken).differences == ()
    assert drift_from(golden, observation(channels())).first.reason == "error"


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_the_numbers_of_a_header_give_back_every_value_of_a_small_dtype(name):
    dtype = np.dtype(name)
    every = np.arange(256**dtype.itemsize).astype(f"u{dtype.itemsize}").view(dtype)
    for item in every[:: 1 if dtype.itemsize == 1 else 97]:
        (shown,) = entry_of(item).first
        again = float(np.array(float(shown)).astype(dtype))
        assert again == float(item) or (np.isnan(again) and np.isnan(float(item)))


def test_an_entry_without_numbers_says_so():
    assert entry_of(np.empty((0, 3), np.float32)).low is None
    text = entry_of(np.array("module " * 50))
    assert (text.dtype, text.low, len(text.first[0])) == ("text", None, 41)


def test_drift_of_a_sample_is_measured_against_the_largest_of_the_whole(tmp_path):
    value = generic(LARGE, seed=3)
    place = places(value.size, SAMPLE)[700]
    value.reshape(-1)[place + 1] = 5000.0
    value.reshape(-1)[place] = 0.25
    store(tmp_path, changed("updates", "layers/0/w", value))
    value.reshape(-1)[place] = 0.3
    assert drift_from(fresh(tmp_path), changed("updates", "layers/0/w", value)).first is None
    value.reshape(-1)[place] = 0.9
    assert drift_from(fresh(tmp_path), changed("updates", "layers/0/w", value)).first is not None
