"""What eight devices tell each other in a compiled step with a tiled loss: how often, and how much of it in loops."""

from harness import Scenario
from impl.sharding.plan import Plan
from impl.tiny import family
from impl.training.settings import TrainSettings

TILED = TrainSettings(num_vocab_tiling=4)
BOTH = Plan(mesh={"fsdp": 2, "tensor": 2, "expert": 2})

SCENARIO = Scenario(
    why="a head split over devices was gathered again for every tile: the same numbers, in more time and memory",
    program="collectives",
    settings={"rows": 8, "plan": BOTH, "train": TILED},
    matrix={
        "untied": {"config": family("llama2", vocab_size=260, num_decoder_layers=1)},
        "tied-scan1": {"config": family("gemma2", vocab_size=260, scan_layers=True)},
        "accumulated": {
            "config": family("qwen3", vocab_size=260, num_decoder_layers=1),
            "train": TrainSettings(num_vocab_tiling=4, gradient_accumulation_steps=2),
        },
        "untiled": {"config": family("llama2", vocab_size=260, num_decoder_layers=1), "train": TrainSettings()},
    },
    devices=8,
    gibibytes=4.0,
    quick=("untied",),
    faults=("tiling_head_gathered_thrice",),
)
