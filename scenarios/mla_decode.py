"""Serving from a cache of latents: prompts out of order, greedy and sampled steps, a slot used again; the cache."""

from harness import Scenario
from impl.tiny import family

SCENARIO = Scenario(
    why="the cache keeps no heads: what is cached must be normed and turned once, and made into heads each time",
    program="decode",
    settings={"prompts": (3, 0, 2), "slots": 5, "generate": 4},
    matrix={
        "plain": {"config": family("deepseek_mla")},
        "lora-scan1": {"config": family("deepseek_mla_lora", scan_layers=True)},
    },
    quick=("lora-scan1",),
    faults=("latents_of_others_seen", "latents_cached_before_norm"),
)
