"""Learning from pairs, interrupted: policy, moments and step come back, and the reference is step 0's policy."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import PreferenceSettings, TrainSettings

SCENARIO = Scenario(
    why="a resumed policy that becomes its own reference forgets what it must stay near to, and its loss starts anew",
    program="dpo_resume",
    settings={
        "steps": 4,
        "preference": PreferenceSettings(enable=True, label_smoothing=0.1),
        "train": TrainSettings(adam_eps=1e-4),  # as in train_step
    },
    matrix={
        "llama2": {"config": family("llama2")},
        "gemma2-scan1": {"config": family("gemma2", scan_layers=True)},
        "dropout-scan1": {"config": family("qwen3", dropout_rate=0.3, scan_layers=True)},
        "gpt3-scan0-accumulated": {
            "config": family("gpt3", scan_layers=True, param_scan_axis=0),
            "rows": 4,
            "train": TrainSettings(adam_eps=1e-4, gradient_accumulation_steps=2),
        },
    },
    quick=("dropout-scan1",),
    faults=("dpo_reference_not_restored",),
)
