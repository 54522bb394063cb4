"""Bytes of the compiled train step: temporaries, outputs, arguments, and what an output takes over from a donation."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

SCENARIO = Scenario(
    why="a scan that handed its parameters back cost 12.7 GiB and no bit: only the compiler's account showed it",
    program="resources",
    matrix={
        "llama2-scan1": {"config": family("llama2", scan_layers=True)},
        "llama2": {"config": family("llama2")},
        "remat-scan0": {
            "config": family("qwen3", scan_layers=True, param_scan_axis=0, remat_policy="full"),
        },
        "accumulated-scan1": {
            "config": family("gemma2", scan_layers=True),
            "rows": 4,
            "train": TrainSettings(gradient_accumulation_steps=2),
        },
        "tiled": {"config": family("llama2"), "train": TrainSettings(num_vocab_tiling=3)},
        "gpt_oss-scan1": {"config": family("gpt_oss", scan_layers=True)},
    },
    faults=("scan_hands_parameters_back", "state_not_donated", "remat_lost_in_scan"),
    quick=("llama2-scan1",),
)
