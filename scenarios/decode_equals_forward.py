"""Decoding token by token from the cache says what one forward pass over the whole text says, on each side."""

from harness import Scenario
from impl.tiny import family

FAMILIES = ("llama2", "gemma2", "qwen3", "gpt3")
UNLIKE = ("gpt_oss", "gemma3", "deepseek_mla", "deepseek_mla_lora")
"""Whose layers are not all alike: windows in a cycle, latents for a cache."""

SCENARIO = Scenario(
    why="both sides could keep the same wrong cache; the forward pass, which has none, is the witness",
    program="decode_logits",
    relation=(("full", {}),),
    settings={"prompts": (3, 0, 2), "slots": 5, "generate": 6},
    matrix={
        **{name: {"config": family(name)} for name in FAMILIES},
        **{f"{name}-scan": {"config": family(name, scan_layers=True)} for name in FAMILIES},
        "yarn": {"config": family("mistral")},
        "mixtral": {"config": family("mixtral")},
        **{f"{name}-scan": {"config": family(name, scan_layers=True)} for name in UNLIKE},
    },
    quick=("gemma2-scan",),
    faults=("both_decode_without_window", "both_keep_padding"),
)
