"""Scanned layers compute what the same layers written out compute, on each side by itself."""

from harness import Scenario
from impl.tiny import family

NAMES = ("llama2", "gpt3", "gemma3", "gpt_oss", "deepseek_mla_lora")

SCENARIO = Scenario(
    why="a scan that reorders, repeats or forgets layers may do so on both sides; the loop written out is the witness",
    program="gradients",
    relation=(
        ("gradients", {"overriding": {"scan_layers": True}}),
        ("gradients", {"overriding": {"scan_layers": True, "param_scan_axis": 0}}),
    ),
    matrix={name: {"config": family(name), "offset": 0 if name == "gpt3" else 3000} for name in NAMES},
    quick=("llama2",),
    faults=("both_scan_backwards",),
)
