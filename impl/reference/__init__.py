"""Both sides held against numbers that another code base computed on the same weights and inputs."""

from impl.reference.compare import SIDES, compare_reference
from impl.reference.folder import ReferenceFolderError
from impl.reference.records import Measured, ReferenceReport, Run
from impl.reference.rendering import reference_data, reference_text

__all__ = [
    "SIDES",
    "Measured",
    "ReferenceFolderError",
    "ReferenceReport",
    "Run",
    "compare_reference",
    "reference_data",
    "reference_text",
]
