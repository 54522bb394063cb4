"""Accumulated microbatches: strided rows, unequal token counts, one microbatch without any weight."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

SCENARIO = Scenario(
    why="microbatches weigh by their tokens, one without weight adds nothing, and nothing carried over may be lost",
    program="train",
    settings={"steps": 3, "rows": 6, "train": TrainSettings(gradient_accumulation_steps=3)},
    matrix={
        "unequal": {"config": family("llama2")},
        "one-empty-scan1": {"config": family("llama2", scan_layers=True), "unweighted": (1, 3)},
        "gemma2-pairs": {
            "config": family("gemma2"),
            "train": TrainSettings(gradient_accumulation_steps=2, opt_type="adam_pax", adam_eps=1e-4),
        },
        "gpt_oss-scan1": {"config": family("gpt_oss", scan_layers=True)},
        "latent-one-empty": {"config": family("deepseek_mla_lora"), "unweighted": (1, 3)},
    },
    faults=("accumulation_mean_of_means",),
    quick=("unequal",),
)
