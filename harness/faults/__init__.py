"""Detection power: known mistakes injected on purpose, each to be caught and placed, and clean variations."""

from harness.faults.record import ATTESTATION, Catalogue, CatalogueError, Edit, Fault, Variation

__all__ = ["ATTESTATION", "Catalogue", "CatalogueError", "Edit", "Fault", "Variation"]
