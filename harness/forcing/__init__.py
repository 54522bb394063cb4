"""A run with the other side's values in its hands: which module diverges by itself, and which only follows."""

from harness.forcing.runs import forced

__all__ = ["forced"]
