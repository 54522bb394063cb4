"""Ten steps: slow divergences, schedules and bias corrections show only after many updates."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

SCENARIO = Scenario(
    why="ten updates: schedule, bias correction, clipping and weight decay must stay together, not only start so",
    program="train",
    settings={"steps": 10},
    matrix={
        "adamw": {"config": family("llama2", scan_layers=True), "stride": 3},
        "adam_pax": {"config": family("gpt3"), "train": TrainSettings(opt_type="adam_pax", adam_eps=1e-4)},
        "adam_pax-scalar": {"config": family("qwen3"), "train": TrainSettings(opt_type="adam_pax", schedule="scalar")},
        "adamw-unclipped": {
            "config": family("gemma2"),
            # Ten unclipped steps at the usual rate double rounding noise often enough for a golden to drift.
            "train": TrainSettings(
                gradient_clipping_threshold=0.0, schedule="constant", learning_rate=3e-4, adam_eps=1e-4
            ),
        },
        "sgd": {"config": family("llama3.1"), "stride": 3, "train": TrainSettings(opt_type="sgd", learning_rate=0.1)},
        "gemma3-scan1": {"config": family("gemma3", scan_layers=True), "train": TrainSettings(adam_eps=1e-4)},
        "mixtral": {"config": family("mixtral", scan_layers=True), "train": TrainSettings(adam_eps=1e-4)},
        "latent": {"config": family("deepseek_mla_lora", scan_layers=True), "train": TrainSettings(adam_eps=1e-4)},
    },
    faults=("moments_reset", "weight_decay_missing", "schedule_off_by_one"),
    quick=("adamw",),
)
