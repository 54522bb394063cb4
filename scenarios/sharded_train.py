"""Training on eight devices: losses, weights and slots after two steps, both sides on the same mesh."""

from harness import Scenario
from impl.sharding.plan import Plan
from impl.tiny import family
from impl.training.settings import TrainSettings

CALM = TrainSettings(adam_eps=1e-4)
CONFIG = family("qwen3", vocab_size=260, scan_layers=True)

SCENARIO = Scenario(
    why="the same placements must give the same numbers: a reduction over the wrong devices is a wrong gradient",
    program="sharded_train",
    settings={"rows": 8, "steps": 2, "config": CONFIG, "train": CALM},
    matrix={
        "fsdp-tensor": {"plan": Plan(mesh={"fsdp": 2, "tensor": 2, "expert": 2})},
        "data": {"plan": Plan(mesh={"data": 8})},
        "context": {"plan": Plan(mesh={"context": 2, "fsdp": 4})},
        "zero-accumulated": {
            "plan": Plan(mesh={"data": 2, "fsdp": 2, "tensor": 2}, zero=1),
            "train": TrainSettings(adam_eps=1e-4, gradient_accumulation_steps=2),
        },
    },
    devices=8,
    quick=("zero-accumulated",),
    faults=("accumulation_contiguous",),
)
