"""Training in 8-bit floats while a code base is half migrated: Flax's operations still on Linen, inside NNX."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

FP8 = {"quantization": "fp8", "amax_history_length": 3, "num_decoder_layers": 2}

SCENARIO = Scenario(
    why="across a bridge statistics change from a collection into Variables and back: they must stay what they are, "
    "whether one product is bridged or a whole decoder",
    program="fp8",
    settings={"steps": 3, "train": TrainSettings(adam_eps=1e-2)},
    matrix={
        "written-out": {"config": family("gpt3", **FP8)},
    },
    sides=(("linen", "nnx_linen_dots"), ("linen", "nnx_linen")),
    faults=("fp8_not_over_the_bridge",),
)
