"""Checksums as text for a terminal. Nothing is decided here."""

from __future__ import annotations

from pathlib import Path as FilePath

from impl.checkpoint.checksums.checking import ChecksumReport
from impl.checkpoint.checksums.manifest import ALGORITHM, Manifest
from impl.checkpoint.tables import table

__all__ = ["checksum_text", "sealed_text"]


def sealed_text(path: FilePath, manifest: Manifest) -> str:
    """A manifest that was written: where, and of what."""
    layers = sum(len(digests) for leaf in manifest.leaves.values() for digests in leaf.layers.values())
    chunks = sum(len(leaf.chunks) for leaf in manifest.leaves.values())
    facts = [
        ("written", path),
        ("leaves", f"{len(manifest.leaves)} ({layers} layers in stacks, {chunks} chunks)"),
        ("files", len(manifest.files)),
        ("digests", ALGORITHM),
    ]
    return table(facts, tablefmt="plain")


def checksum_text(record: ChecksumReport) -> str:
    """A checkpoint held against its manifest: the outcome, the counts, every finding."""
    facts = [
        ("checkpoint", record.checkpoint),
        ("manifest", record.manifest),
        ("outcome", record.outcome),
        ("checked", f"{record.leaves} leaves, {record.files} files; {record.bytes} bytes of chunks were read"),
        ("decoded", f"{record.decoded} leaves, whose encoded bytes differ" if record.decoded else "none"),
        ("found", len(record.findings)),
    ]
    rows = [[row.what, row.name, row.kind, row.detail] for row in record.findings]
    lines = ["", table(rows, headers=["what", "name", "finding", "detail"])] if rows else []
    return "\n".join([table(facts, tablefmt="plain"), *lines])
