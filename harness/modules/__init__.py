"""Any Linen and NNX version of one module as a pair: about forty lines of declaration, see examples/mlp.py."""

from harness.modules.pair import module_pair
from harness.modules.spec import LinenModel, NnxModel, Task

__all__ = ["LinenModel", "NnxModel", "Task", "module_pair"]
