"""Tokens sorted by expert give the numbers of every expert on every token, on each side by itself."""

from harness import Scenario
from impl.tiny import family

SCENARIO = Scenario(
    why="a token sent to the wrong expert is wrong on both sides alike; the dispatch that sends none is the witness",
    program="gradients",
    relation=(("gradients", {"overriding": {"sparse_matmul": True}}),),
    matrix={name: {"config": family(name), "offset": 3000} for name in ("mixtral", "gpt_oss")},
    quick=("mixtral",),
    faults=("both_dispatch_unsorted",),
)
