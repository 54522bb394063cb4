"""The gradients of a step run operation by operation are those of the compiled step, on each side by itself."""

from harness import Scenario
from impl.tiny import family

SCENARIO = Scenario(
    why="what a trace froze (a mask, a key, a branch taken once) shows only where nothing is traced",
    program="gradients",
    relation=(("eager_gradients", {}),),
    matrix={name: {"config": family(name, scan_layers=True)} for name in ("qwen3", "gpt3")},
    quick=("qwen3",),
    faults=("both_trace_frozen",),
)
