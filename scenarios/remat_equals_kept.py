"""Rematerialised layers compute what layers compute whose activations are kept, on each side by itself."""

from harness import Scenario
from impl.tiny import family

SCENARIO = Scenario(
    why="rematerialisation buys memory with time and may change no bit of a gradient, whatever is saved",
    program="gradients",
    relation=(
        ("gradients", {"overriding": {"remat_policy": "full"}}),
        ("gradients", {"overriding": {"remat_policy": "minimal"}}),
    ),
    matrix={
        "llama2": {"config": family("llama2"), "offset": 3000},
        "gpt3": {"config": family("gpt3")},
        "latent": {"config": family("deepseek_mla_lora"), "offset": 3000},
    },
    quick=("gpt3",),
    faults=("remat_applies_layers_twice",),
)
