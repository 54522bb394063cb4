"""From a case that diverged to one file that shows it with plain JAX and Flax, without the harness."""

from harness.reproduce.plan import Plan, ReproductionError, read
from harness.reproduce.writing import write

__all__ = ["Plan", "ReproductionError", "read", "write"]
