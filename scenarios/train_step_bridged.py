"""The same update while a code base is half migrated: the three bridged sides against native Linen."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

BRIDGED = ("linen_nnx_linen", "linen_nnx", "nnx_linen")

SCENARIO = Scenario(
    why="the flags are flipped one by one, and what runs in between must train alike too",
    program="train",
    settings={"steps": 2, "train": TrainSettings(adam_eps=1e-4)},  # as in train_step
    matrix={
        "llama2": {"config": family("llama2")},
        "llama2-scan1": {"config": family("llama2", scan_layers=True)},
        "gemma2-scan0": {"config": family("gemma2", scan_layers=True, param_scan_axis=0)},
        "gpt3": {"config": family("gpt3")},
        "qwen3-remat-scan1": {"config": family("qwen3", scan_layers=True, remat_policy="full")},
        "bf16-eleven": {"config": family("llama3.1", dtype="bfloat16", num_decoder_layers=11)},
    },
    sides=tuple(("linen", side) for side in BRIDGED),
    faults=("bridge_returns_hidden_state",),
    quick=("llama2-scan1",),
)
