"""A digest names the same thing everywhere, and another thing by another name."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from harness.digest import of_array, of_case, of_settings, plain

ROOT = Path(__file__).resolve().parents[2]
VALUES = np.random.default_rng(4).standard_normal((3, 5), dtype="float32")


class Kind(enum.Enum):
    DENSE = "dense"
    SPARSE = "sparse"


@dataclasses.dataclass(frozen=True)
class Config:
    width: int
    kind: Kind = Kind.DENSE
    scale: float = 0.1


@dataclasses.dataclass(frozen=True)
class Other:
    width: int
    kind: Kind = Kind.DENSE
    scale: float = 0.1


def act(x):
    return x


SETTINGS = {
    "config": Config(5),
    "kinds": {Kind.SPARSE, Kind.DENSE},
    "names": frozenset({"z", "a", "m", "µ"}),
    "act": act,
    "mask": VALUES > 0,
    "rate": np.float32(0.1),
    "nested": {"tuple": (1, 2.5, None, True), 3: "three"},
    "dtype": np.float32,
}

ELSEWHERE = """
import numpy as np
from harness.digest import of_case
from tests.harness.test_digest import SETTINGS, VALUES
order = dict(reversed(SETTINGS.items()))
print(of_case(order, {"w": VALUES}, {"x": VALUES[1:]}))
"""


def test_a_digest_is_the_same_in_every_process_and_order():
    here = of_case(SETTINGS, {"w": VALUES}, {"x": VALUES[1:]})
    for seed in ("0", "12345"):
        environment = {"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == here


def test_what_is_hashed_is_written_down_so_that_no_release_renames_every_golden_unnoticed():
    settings = b'{"names": ["a", "b"], "width": 3}'
    assert of_settings({"width": 3, "names": ("a", "b")}) == hashlib.sha256(settings).hexdigest()
    array = np.array([[1.5, -2.0, 0.25]], "<f4")
    assert of_array(array) == hashlib.sha256(b"float32(1, 3)" + bytes.fromhex("0000c03f000000c00000803e")).hexdigest()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bfloat16", "float8_e4m3fn"])
def test_every_bit_of_a_weight_counts(dtype):
    array = (3 * VALUES[:2, :3]).astype(getattr(ml_dtypes, dtype, dtype))
    seen = {of_array(array)}
    bits = np.unpackbits(np.frombuffer(array.tobytes(), np.uint8))
    for place in range(bits.size):
        flipped = bits.copy()
        flipped[place] ^= 1
        seen.add(of_array(np.frombuffer(np.packbits(flipped).tobytes(), array.dtype).reshape(array.shape)))
    assert len(seen) == bits.size + 1


def test_dtype_and_shape_count_even_if_the_bytes_are_the_same():
    views = [
        VALUES,
        VALUES.reshape(5, 3),
        VALUES.reshape(-1),
        VALUES.reshape(1, 3, 5),
        VALUES.view(np.int32),
        VALUES.view(np.uint32),
        VALUES.reshape(-1).view(np.uint8),
    ]
    assert len({of_array(view) for view in views}) == len(views)
    assert len({of_array(np.zeros(shape, "float32")) for shape in ((0, 3), (3, 0), (0,))}) == 3


def test_the_layout_in_memory_does_not_count():
    assert of_array(np.asfortranarray(VALUES)) == of_array(VALUES)
    wide = np.repeat(VALUES, 2, axis=1)
    assert of_array(wide[:, ::2]) == of_array(VALUES)
    assert of_array(VALUES.T) != of_array(VALUES)


def test_a_case_is_named_by_settings_names_and_arrays():
    base = ({"width": 3}, {"a": VALUES, "b": 2 * VALUES}, {"x": VALUES[1:]})
    settings, weights, inputs = base
    others = [
        ({"width": 4}, weights, inputs),
        ({"width": 3.0}, weights, inputs),
        ({"breadth": 3}, weights, inputs),
        ({}, weights, inputs),
        (settings, {"a": VALUES, "c": 2 * VALUES}, inputs),
        (settings, {"a": 2 * VALUES, "b": VALUES}, inputs),
        (settings, {"a": VALUES}, inputs),
        (settings, weights, {"y": VALUES[1:]}),
        (settings, weights, {}),
        (settings, {**weights, "x": VALUES[1:]}, {}),
    ]
    assert len({of_case(*each) for each in [base, *others]}) == len(others) + 1
    assert of_case(settings, dict(reversed(weights.items())), inputs) == of_case(*base)


def test_settings_become_plain_values():
    assert plain(SETTINGS) == {
        "config": {"record": "Config", "width": 5, "kind": "dense", "scale": 0.1},
        "kinds": ["dense", "sparse"],
        "names": ["a", "m", "z", "µ"],
        "act": f"{__name__}.act",
        "mask": of_array(VALUES > 0),
        "rate": pytest.approx(0.1),
        "nested": {"tuple": [1, 2.5, None, True], "3": "three"},
        "dtype": "numpy.float32",
    }
    assert type(plain(np.int64(3))) is int
    assert plain(Config) == f"{__name__}.Config"


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (Config(5), Config(6)),
        (Config(5), Config(5, Kind.SPARSE)),
        (Config(5), Config(5, scale=np.nextafter(0.1, 1.0))),
        (Config(5), Other(5)),
        (Config, Other),
        (act, plain),
        ([1, 2], [2, 1]),
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (None, "None"),
        ("3", 3),
        (np.float32(0.1), 0.1),
        (VALUES, -VALUES),
        ({"a": {"b": 1}}, {"a": 1, "b": 1}),
    ],
)
def test_unequal_settings_have_unequal_digests(one, another):
    assert of_settings({"value": one}) != of_settings({"value": another})
    assert of_settings({"value": one}) == of_settings({"value": one})


def test_two_lambdas_are_two_settings():
    one, another = lambda x: x, lambda x: 2 * x
    assert of_settings({"act": one}) != of_settings({"act": another})


class Schedule:
    """A setting that is no dataclass and says nothing about itself."""


@pytest.mark.parametrize("make", [Schedule, lambda: functools.partial(act, 3)], ids=["object", "partial"])
def test_what_has_no_name_is_told_without_its_address(make):
    address = hex(id(act))[2:]
    value = make()
    assert address not in str(plain(value))
    assert hex(id(value))[2:] not in str(plain(value))


def test_every_element_of_an_array_of_jax_counts():
    import jax.numpy as jnp

    one = jnp.linspace(0.5, 2.5, 2000)
    assert of_settings({"table": one}) != of_settings({"table": one.at[900].add(1.0)})


def test_a_later_field_is_in_no_digest_until_it_is_set():
    @dataclasses.dataclass(frozen=True)
    class Before:
        width: int = 3

    @dataclasses.dataclass(frozen=True)
    class After:
        width: int = 3
        depth: int = dataclasses.field(default=2, metadata={"later": True})

    After.__name__ = "Before"
    assert of_settings(After()) == of_settings(Before())
    assert of_settings(After(depth=4)) != of_settings(Before())
    assert plain(After(depth=4))["depth"] == 4
