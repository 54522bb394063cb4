"""Learning from pairs: outcomes, gradients, three updates, and a reference that is what it was, on both sides."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import PreferenceSettings, TrainSettings

PAPER = PreferenceSettings(enable=True, beta=0.3)
SMOOTHED = PreferenceSettings(enable=True, label_smoothing=0.15)
CALM = TrainSettings(adam_eps=1e-4)  # as in train_step
THREE = TrainSettings(adam_eps=1e-4, gradient_accumulation_steps=3)

SCENARIO = Scenario(
    why="a reference that is trained with the policy, or judged by other tokens, still gives a loss that falls",
    program="dpo",
    settings={"steps": 3, "preference": PAPER, "train": CALM},
    matrix={
        "llama2-scan1-smoothed": {"config": family("llama2", scan_layers=True), "preference": SMOOTHED},
        "gpt3-accumulated": {"config": family("gpt3"), "rows": 6, "train": THREE, "preference": SMOOTHED},
        "qwen3-one-empty-scan1": {
            "config": family("qwen3", scan_layers=True),
            "rows": 6,
            "train": THREE,
            "unweighted": (1, 3),
        },
        "gemma2-bf16-scan0": {
            "config": family("gemma2", dtype="bfloat16", scan_layers=True, param_scan_axis=0),
        },
        "remat-maxtext": {
            "config": family("mistral", remat_policy="full"),
            "preference": PreferenceSettings(enable=True, formula="maxtext"),
        },
    },
    quick=("llama2-scan1-smoothed",),
    faults=("dpo_prefix_counts", "dpo_reference_trained"),
)
