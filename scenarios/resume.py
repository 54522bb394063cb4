"""Interrupted equals uninterrupted: weights, moments, step, schedule and rng streams come back from the checkpoint."""

from harness import Scenario
from impl.tiny import family

SCENARIO = Scenario(
    why="moments reset and dropout streams restarted at resume were found months after the flag was flipped",
    program="resume",
    settings={"steps": 6},
    matrix={
        "dropout": {"config": family("llama2", dropout_rate=0.3)},
        "dropout-scan1": {"config": family("llama2", dropout_rate=0.3, scan_layers=True)},
        "quiet": {"config": family("gemma2")},
        "quiet-scan0": {"config": family("gpt3", scan_layers=True, param_scan_axis=0)},
        "gpt_oss-scan1": {"config": family("gpt_oss", scan_layers=True)},
        "latent-dropout-scan1": {"config": family("deepseek_mla_lora", dropout_rate=0.3, scan_layers=True)},
        "fp8-scan1": {
            "config": family("gpt3", scan_layers=True, num_decoder_layers=2, quantization="fp8", amax_history_length=3)
        },
    },
    faults=("resume_forgets_moments", "resume_restarts_dropout"),
    quick=("dropout",),
)
