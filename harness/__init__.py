"""The verifier: runs two implementations of one thing on identical weights and says what it proved."""

from harness.allowance import Allowance
from harness.pair import Pair, Side
from harness.scenario import Run, Scenario

__all__ = ["Allowance", "Pair", "Run", "Scenario", "Side"]
