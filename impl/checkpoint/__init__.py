"""Orbax checkpoints, of both implementations and MaxText's: inspect, convert, compare, checksum, export, save, load."""

from impl.checkpoint.checksums.checking import ChecksumReport, Finding, check
from impl.checkpoint.checksums.checksum import checksum
from impl.checkpoint.checksums.checksum_text import checksum_text, sealed_text
from impl.checkpoint.comparison.compare import compare, compare_under
from impl.checkpoint.comparison.comparison_text import comparison_text
from impl.checkpoint.comparison.differences import CheckpointComparison, LeafDifference, NotCompared, Terms
from impl.checkpoint.comparison.distance import Tolerance
from impl.checkpoint.conversion.convert import ConversionReport, Request, convert, convert_as
from impl.checkpoint.conversion.in_memory import convert_in_memory, write_sample
from impl.checkpoint.derived.entropy import EntropyReport, entropy, entropy_text
from impl.checkpoint.derived.export import ExportReport, ExportWishes, export, export_text
from impl.checkpoint.derived.paxml import PaxmlReport, PaxmlWishes, paxml, paxml_text
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.inspection import Inspection, inspect
from impl.checkpoint.leaves.leaf import KeyArray
from impl.checkpoint.rendering import as_data, conversion_text, inspection_text
from impl.checkpoint.storage.whole_trees import load_tree, save_tree

__all__ = [
    "CheckpointComparison",
    "CheckpointError",
    "ChecksumReport",
    "ConversionReport",
    "EntropyReport",
    "ExportReport",
    "ExportWishes",
    "Finding",
    "Inspection",
    "KeyArray",
    "LeafDifference",
    "NotCompared",
    "PaxmlReport",
    "PaxmlWishes",
    "Request",
    "Terms",
    "Tolerance",
    "as_data",
    "check",
    "checksum",
    "checksum_text",
    "compare",
    "compare_under",
    "comparison_text",
    "conversion_text",
    "convert",
    "convert_as",
    "convert_in_memory",
    "entropy",
    "entropy_text",
    "export",
    "export_text",
    "inspect",
    "inspection_text",
    "load_tree",
    "paxml",
    "paxml_text",
    "save_tree",
    "sealed_text",
    "write_sample",
]
