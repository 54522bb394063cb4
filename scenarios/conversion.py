"""Checkpoints from either side to the other, scanned and not, byte-equal there and back, and training goes on."""

from harness import Scenario
from impl.tiny import family

SCENARIO = Scenario(
    why="an owner of old checkpoints must be able to go either way without losing a byte, moments and step included",
    program="conversion",
    settings={"steps": 3},
    matrix={
        "unscanned": {"config": family("llama2")},
        "scan1": {"config": family("llama2", scan_layers=True)},
        "scan0": {"config": family("qwen3", scan_layers=True, param_scan_axis=0)},
        "gemma2": {"config": family("gemma2")},
        "eleven": {"config": family("llama2", num_decoder_layers=11)},
        "gpt3-bf16-scan1": {"config": family("gpt3", scan_layers=True, weight_dtype="bfloat16")},
        "mixtral-scan1": {"config": family("mixtral", scan_layers=True)},
        "gpt_oss": {"config": family("gpt_oss")},
        "gpt_oss-scan1": {"config": family("gpt_oss", scan_layers=True)},
        "gemma3-scan1": {"config": family("gemma3", scan_layers=True)},
        "latent": {"config": family("deepseek_mla_lora")},
        "latent-scan0": {"config": family("deepseek_mla_lora", scan_layers=True, param_scan_axis=0)},
        "fp8-scan1": {
            "config": family("gpt3", scan_layers=True, num_decoder_layers=2, quantization="fp8", amax_history_length=3)
        },
    },
    faults=("conversion_forgets_moments",),
    quick=("scan1",),
)
