"""Training with dropout, NNX drawing with the keys that Linen derives: losses, gradients and weights to the bit."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

SCENARIO = Scenario(
    why="masks that differ by design hide whatever else differs; with one side's keys on both, nothing may",
    program="train",
    # A gradient that is nothing but rounding must not become a whole step of Adam: goldens would hold it.
    settings={"steps": 2, "train": TrainSettings(adam_eps=1e-4)},
    draws="replayed",
    matrix={
        "llama2": {"config": family("llama2", dropout_rate=0.4)},
        "gemma2-scan1-remat": {"config": family("gemma2", dropout_rate=0.3, scan_layers=True, remat_policy="full")},
        "gpt3-scan0": {"config": family("gpt3", dropout_rate=0.2, scan_layers=True, param_scan_axis=0)},
        "accumulated": {
            "config": family("qwen3", dropout_rate=0.3, scan_layers=True),
            "rows": 6,
            "train": TrainSettings(gradient_accumulation_steps=3, adam_eps=1e-4),
        },
    },
    quick=("gemma2-scan1-remat",),
    faults=("dropout_before_residual", "accumulation_contiguous"),
)
