"""Prompts of unequal length into slots out of order, greedy and sampled steps, a slot used again; the cache after."""

from harness import Scenario
from impl.tiny import family

FAMILIES = ("llama2", "gemma2", "qwen3", "gpt3")

SCENARIO = Scenario(
    why="serving keeps state between calls: the cache must be filled, read and emptied alike on both sides",
    program="decode",
    settings={"prompts": (3, 0, 2), "slots": 5, "generate": 4},
    matrix={
        **{name: {"config": family(name)} for name in FAMILIES},
        **{f"{name}-scan": {"config": family(name, scan_layers=True)} for name in FAMILIES},
        "llama3.1": {"config": family("llama3.1")},
        "yarn-scan0": {"config": family("mistral", scan_layers=True, param_scan_axis=0)},
        "fused": {"config": family("fused")},
        "bf16": {"config": family("llama2", dtype="bfloat16")},
        "bf16-gemma2-scan": {"config": family("gemma2", dtype="bfloat16", scan_layers=True)},
        "mixtral": {"config": family("mixtral")},
        "qwen3_moe-scan0": {"config": family("qwen3_moe", scan_layers=True, param_scan_axis=0)},
        "gpt_oss-scan": {"config": family("gpt_oss", scan_layers=True)},
        "deepseek-scan": {"config": family("deepseek", scan_layers=True)},
        "gemma3": {"config": family("gemma3")},
        "gemma3-scan": {"config": family("gemma3", scan_layers=True)},
        "eleven-layers": {"config": family("llama2", num_decoder_layers=11)},
    },
    quick=("gemma2-scan",),
    faults=("cache_not_written_back", "cache_validity_ignored", "decode_window_ignored"),
)
