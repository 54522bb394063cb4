"""A golden that is missing, stale or not as it was accepted is never compared, and says what to do."""

import hashlib
import re

import numpy as np
import pytest

from harness.golden import (
    Missing,
    Stale,
    Tampered,
    held,
    load,
)
from harness.judge import Held, NotHeld
from harness.verdict import Ending
from tests.harness.accepted_goldens import (
    DIGEST,
    KEY,
    NAME,
    at_a_desk,
    changed,
    channels,
    fresh,
    store,
)
from tests.harness.fabricate import observation

_desk = pytest.fixture(autouse=True)(at_a_desk)


def test_missing_says_what_to_do(tmp_path):
    found = load(tmp_path, NAME, KEY, DIGEST)
    assert isinstance(found, Missing)
    for command in ("regenerate", "diff", "accept"):
        assert f"`harness golden {command} --scenario llama2`" in found.sentence
    store(tmp_path)
    found = load(tmp_path, NAME, "llama2-scan1", DIGEST)
    assert isinstance(found, Missing)
    assert "has no case 'llama2-scan1' (it has llama2-scan0)" in found.sentence


def test_a_changed_case_makes_its_golden_stale(tmp_path):
    store(tmp_path)
    found = load(tmp_path, NAME, KEY, "e2" * 32)
    assert isinstance(found, Stale)
    assert "e2e2e2e2e2e2…, golden d1d1d1d1d1d1…" in found.sentence
    assert "not compared" in found.sentence


def test_a_flipped_bit_anywhere_in_the_body_is_seen(tmp_path):
    _, body = store(tmp_path)
    whole = body.read_bytes()
    for place in (5, len(whole) // 3, len(whole) // 2, len(whole) - 3):
        body.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = load(tmp_path, NAME, KEY, DIGEST)
        assert isinstance(found, Tampered)
        assert "the body is another" in found.sentence


@pytest.mark.parametrize(
    ("old", "new"),
    [(r'"min": -[0-9.]+', '"min": -0.25'), (r'"who": "linen"', '"who": "nnx"'), (DIGEST, "e2" * 32), (r"$", " ")],
)
def test_an_edited_header_is_seen(tmp_path, old, new):
    header, _ = store(tmp_path)
    text = header.read_text()
    edited = re.sub(old, new, text, count=1)
    assert edited != text
    header.write_text(edited)
    found = load(tmp_path, NAME, KEY, DIGEST)
    assert isinstance(found, Tampered)
    assert "the header was edited" in found.sentence


def test_a_header_with_a_forged_digest_must_still_describe_its_body(tmp_path):

    header, _ = store(tmp_path)
    lines = re.sub(r'"min": -[0-9.]+', '"min": -0.25', header.read_text(), count=1).split("\n")
    own = hashlib.sha256("\n".join(x for x in lines if "header_sha256" not in x).encode()).hexdigest()
    header.write_text("\n".join(f' "header_sha256": "{own}",' if "header_sha256" in x else x for x in lines))
    found = load(tmp_path, NAME, KEY, DIGEST)
    assert isinstance(found, Tampered)
    assert "is not what its line says" in found.sentence


def test_line_endings_of_a_checkout_are_no_tampering(tmp_path):
    header, _ = store(tmp_path)
    header.write_bytes(header.read_bytes().replace(b"\n", b"\r\n"))
    fresh(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[3]", b"\xff\xfe", b'{"format": 1'])
def test_a_header_that_is_none_is_tampered(tmp_path, content):
    header, _ = store(tmp_path)
    header.write_bytes(content)
    assert isinstance(load(tmp_path, NAME, KEY, DIGEST), Tampered)


@pytest.mark.parametrize("gone", [0, 1])
def test_half_a_golden_is_tampered(tmp_path, gone):
    paths = store(tmp_path)
    paths[gone].unlink()
    found = load(tmp_path, NAME, KEY, DIGEST)
    assert isinstance(found, Tampered)
    assert f"{paths[gone]} is gone" in found.sentence


def test_another_scenarios_golden_is_tampered(tmp_path):
    for path in store(tmp_path):
        path.rename(path.with_stem("mixtral"))
    found = load(tmp_path, "mixtral", KEY, DIGEST)
    assert isinstance(found, Tampered)
    assert "is the golden of scenario 'llama2'" in found.sentence


def test_another_format_is_stale(tmp_path):
    header, _ = store(tmp_path)
    header.write_text(header.read_text().replace('"format": 1', '"format": 7'))
    found = load(tmp_path, NAME, KEY, DIGEST)
    assert isinstance(found, Stale)
    assert "format 7" in found.sentence


def test_held_gives_the_judge_what_it_wants(tmp_path):
    left, right = observation(channels()), changed("outputs", "tokens", np.array([5, 6, 7, 8], np.int32))
    missing = held(load(tmp_path, NAME, KEY, DIGEST), left, right)
    assert (type(missing), missing.ending) == (NotHeld, Ending.MISSING_GOLDEN)
    store(tmp_path)
    found = held(fresh(tmp_path), left, right)
    assert isinstance(found, Held)
    assert (found.left.first, found.right.first.name) == (None, "tokens")
    assert held(load(tmp_path, NAME, KEY, "e2"), left, right).ending is Ending.STALE_GOLDEN
    assert held(Tampered(sentence="so"), left, right) == NotHeld(because="so", ending=Ending.TAMPERED_GOLDEN)
