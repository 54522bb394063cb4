"""Dropout on each side: masks differ by step, layer and row, repeat with their stream, and evaluation draws none."""

from harness import Scenario
from impl.tiny import family

SCENARIO = Scenario(
    why="streams that repeat or are shared between layers are the commonest silent loss of an NNX migration",
    program="dropout",
    matrix={
        "llama2": {"config": family("llama2", dropout_rate=0.4)},
        "llama2-scan1": {"config": family("llama2", dropout_rate=0.4, scan_layers=True)},
        "remat-scan0": {
            "config": family("qwen3", dropout_rate=0.3, scan_layers=True, param_scan_axis=0, remat_policy="full")
        },
        "remat": {"config": family("llama2", dropout_rate=0.3, remat_policy="full")},
        "accumulated": {
            "config": family("llama2", dropout_rate=0.4, num_decoder_layers=2),
            "rows": 6,
            "microbatches": 3,
        },
        "gemma2-scan1": {"config": family("gemma2", dropout_rate=0.4, scan_layers=True)},
    },
    faults=("dropout_same_mask_each_step", "dropout_same_mask_each_layer", "dropout_off_in_training"),
    quick=("llama2-scan1",),
)
