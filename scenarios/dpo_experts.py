"""Learning from pairs with experts and latents: the policy is balanced, its biases move, the reference sows nothing."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import PreferenceSettings, TrainSettings

SMOOTHED = PreferenceSettings(enable=True, beta=0.3, label_smoothing=0.15)
TWO = TrainSettings(adam_eps=1e-4, gradient_accumulation_steps=2)
LATENT = {"num_decoder_layers": 2, "scan_layers": True}

SCENARIO = Scenario(
    why="experts that only pairs teach collapse unless the policy is balanced, which must not mean the reference",
    program="dpo",
    settings={"steps": 2, "preference": SMOOTHED, "train": TrainSettings(adam_eps=1e-4)},  # as in train_step
    matrix={
        "latent-scan1": {"config": family("deepseek_mla_lora", **LATENT)},
        "mixtral-maxtext": {
            "config": family("mixtral", num_decoder_layers=2),
            "preference": PreferenceSettings(enable=True, formula="maxtext"),
        },
        "deepseek-accumulated-scan0": {
            "config": family("deepseek", scan_layers=True, param_scan_axis=0),
            "rows": 4,
            "train": TWO,
            "unweighted": (1, 4),
        },
        "latent-clipped-maxtext-scan1": {
            "config": family("deepseek_mla", **LATENT, use_qk_clip=True, qk_clip_threshold=0.05),
            "rows": 4,
            "train": TWO,
            "preference": PreferenceSettings(enable=True, formula="maxtext"),
        },
    },
    quick=("latent-scan1",),
    faults=("dpo_reference_balanced", "dpo_balance_shrinks", "dpo_biases_stand_still"),
)
