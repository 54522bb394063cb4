"""Random mutations of one side: which of them the quick scenarios notice, and which are proved to change nothing."""

from harness.mutation.record import Mutant, MutationError, Outcome

__all__ = ["Mutant", "MutationError", "Outcome"]
