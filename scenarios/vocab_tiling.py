"""Training on a loss made tile by tile, its logits never whole: tied and untied heads, capped and scaled."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

TILED = TrainSettings(num_vocab_tiling=4, adam_eps=1e-4)  # as in train_step

SCENARIO = Scenario(
    why="the derivative of a tiled loss is written by hand, and each side hands it its own head and its own weights",
    program="train",
    settings={"steps": 2, "train": TILED},
    matrix={
        **{name: {"config": family(name), "offset": 0 if name == "gpt3" else 3000} for name in ("llama2", "gpt3")},
        **{f"{name}-scan1": {"config": family(name, scan_layers=True)} for name in ("fused", "gemma2", "qwen3")},
        "gpt3-scan0": {"config": family("gpt3", scan_layers=True, param_scan_axis=0)},
        "bf16": {"config": family("llama2", dtype="bfloat16")},
        "remat-accumulated": {
            "config": family("qwen3", remat_policy="full", round_tied_table=True),
            "rows": 6,
            "train": TrainSettings(num_vocab_tiling=3, gradient_accumulation_steps=2, adam_eps=1e-4),
        },
        "as-in-maxtext-0.2.4": {
            "config": family("llama2"),
            "train": TrainSettings(num_vocab_tiling=4, vocab_tiling_gradients="maxtext-0.2.4", adam_eps=1e-4),
        },
    },
    quick=("gemma2-scan1",),
    faults=("tiling_factor_dropped", "tiling_soft_cap_dropped", "tiling_weighs_padding"),
)
