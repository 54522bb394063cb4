"""Both sides refuse the same things with clear errors: wrong weights, wrong batches, wrong checkpoints, wrong flags."""

from harness import Scenario
from impl.tiny import family

SCENARIO = Scenario(
    why="NNX accepts unknown names and wrong shapes silently where Linen raises: a migration must not lose its errors",
    program="refusals",
    matrix={"unscanned": {"config": family("llama2")}, "scan1": {"config": family("qwen3", scan_layers=True)}},
    faults=("nnx_accepts_missing_weight",),
)
