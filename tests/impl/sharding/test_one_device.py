"""What a mesh changes, on one device: nothing. ZeRO-1's choice of a dimension, plans, and what a step is held to."""

from __future__ import annotations

import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from impl.config import ConfigError
from impl.programs import batch, prepare
from impl.sharding.activations import held
from impl.sharding.plan import Plan
from impl.sharding.zero import over_data
from impl.sides import side
from impl.tiny import family
from impl.training.settings import TrainSettings

CONFIG = family("llama2", num_decoder_layers=2, scan_layers=True, max_target_length=10)
MESH = AbstractMesh((2, 3, 2), ("data", "fsdp", "tensor"))


@pytest.mark.parametrize(("name", "axis_types"), [("linen", "explicit"), ("nnx", "auto")])
def test_a_mesh_of_one_device_changes_no_bit(name, axis_types):
    settings = TrainSettings(schedule="constant")
    weights, inputs = prepare({"config": CONFIG}, 3)
    plain = side(name).Trainer(CONFIG, settings, weights)
    spread = side(name).ShardedTrainer(CONFIG, settings, weights, Plan(axis_types=axis_types))
    ours, theirs = plain.step(batch(inputs, 0)), spread.step(batch(inputs, 0))
    assert {key: value.tobytes() for key, value in ours.items()} == {k: v.tobytes() for k, v in theirs.items()}
    after = spread.weights()
    assert all(np.array_equal(value, after[leaf]) for leaf, value in plain.weights().items())
    shape = f"[3,10,{CONFIG.emb_dim}]"
    forward = [text for text in held(spread.traced(batch(inputs, 0))) if text.endswith(f"{shape} (-, -, -)")]
    assert len(forward) >= 4  # the embedded tokens and the hidden state in the scan, each of them there and back


@pytest.mark.parametrize(
    ("shape", "spec", "expected"),
    [
        ((4, 6), (None, None), (("data",), ())),
        ((3, 6), (None, None), ((), ("data",))),
        ((6, 8), ("fsdp", None), (("data", "fsdp"), ())),
        ((3, 8), ("fsdp", None), (("fsdp",), ("data",))),
        ((4, 8), ("tensor", None), (("tensor",), ("data",))),
        ((4, 3), ("tensor", None), (("tensor",), ())),
        ((8, 8), (None, ("fsdp", "data")), ((), ("fsdp", "data"))),
        ((), (), ()),
    ],
)
def test_zero_splits_the_first_dimension_that_divides(shape, spec, expected):
    found = over_data(NamedSharding(MESH, PartitionSpec(*spec)), shape).spec
    entries = (*found, *[None] * (len(shape) - len(found)))
    assert tuple(() if e is None else (e,) if isinstance(e, str) else tuple(e) for e in entries) == expected


@pytest.mark.parametrize("wrong", [{"axis_types": "manual"}, {"zero": 3}])
def test_a_plan_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match="is not one of"):
        Plan(**wrong)
