"""Goldens in pytest: a syrupy extension that reads them as the command line does, and never writes one.

@pytest.fixture
def golden(snapshot):
    return snapshot.use_extension(in_folder(Path("goldens")))

assert observation == golden(name="llama2/llama2-scan0")  # scenario/golden key
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syrupy.data import SnapshotCollection, SnapshotCollections
from syrupy.extensions.base import AbstractSyrupyExtension

from harness.comparison import Comparison
from harness.difference import describe
from harness.golden.acceptance import GoldenError
from harness.golden.check import drift_from
from harness.golden.store import Loaded, Missing, Stale, Tampered, header_path, load
from harness.observation import Observation

__all__ = ["GoldenExtension", "Reference", "in_folder"]


UPDATE = (
    "--snapshot-update never writes a golden: run `harness golden regenerate`, read `harness golden diff`, "
    "then `harness golden accept`"
)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The golden that an assertion names, to be loaded when the observation, which knows its case, is there."""

    folder: Path
    scenario: str
    key: str


def in_folder(folder: Path) -> type[GoldenExtension]:
    """The extension that reads the goldens of this folder."""
    return type("GoldenExtension", (GoldenExtension,), {"folder": folder, "__module__": __name__})


class GoldenExtension(AbstractSyrupyExtension):
    """Compares an Observation with the golden called "scenario/key" within drift.

    A golden that is missing, stale or tampered with fails the assertion with the sentence that says what to do.
    Raises GoldenError for a name that is not "scenario/key" and for every attempt to write (--snapshot-update).
    """

    folder: Path = Path("goldens")

    @staticmethod
    def outcome(observation: Observation, golden: Reference) -> Comparison | Missing | Stale | Tampered:
        """The drift of an observation from a golden, or why it cannot be had. The command line asks this too."""
        found = load(golden.folder, golden.scenario, golden.key, observation.case_digest)
        return drift_from(found, observation) if isinstance(found, Loaded) else found

    def serialize(self, data: Any, **_: Any) -> Any:
        """The observation itself: it is compared, not its text. Raises GoldenError for anything else."""
        if not isinstance(data, Observation):
            raise GoldenError(f"only an Observation has a golden, this is a {type(data).__name__}")
        return data

    def matches(self, *, serialized_data: Any, snapshot_data: Any) -> bool:
        """True if the golden is fresh and the observation within drift of it.

        Raises GoldenError otherwise. It does not return False, because what syrupy does then under --snapshot-update
        is to write, and to let the test pass.
        """
        found = self.outcome(serialized_data, snapshot_data)
        if not isinstance(found, Comparison):
            raise GoldenError(f"{found.sentence}. {UPDATE}")
        beyond = [describe(difference) for difference in found.differences if difference.allowed_by is None]
        if beyond:
            more = f" (and {len(beyond) - 1} more)" if beyond[1:] else ""
            name = f"{snapshot_data.scenario}/{snapshot_data.key}"
            raise GoldenError(f"drifted from golden {name} (golden first): {beyond[0]}{more}. {UPDATE}")
        if not found.compared:
            raise GoldenError(f"the golden and the observation of {found.right} share no value. {UPDATE}")
        return True

    @classmethod
    def get_snapshot_name(cls, *, test_location: Any, index: Any = 0) -> str:
        """The name of the golden, as the assertion gives it."""
        if not isinstance(index, str) or index.count("/") != 1:
            raise GoldenError(f"a golden is asserted by name, golden(name='scenario/key'), not as {index!r}")
        return index

    @classmethod
    def get_location(cls, *, test_location: Any, index: Any) -> str:
        """The header of the golden that the assertion names."""
        name = cls.get_snapshot_name(test_location=test_location, index=index)
        return str(header_path(cls.folder, name.split("/")[0]))

    @classmethod
    def dirname(cls, *, test_location: Any) -> str:
        """The folder of goldens, whatever test asks."""
        return str(cls.folder)

    def read_snapshot_data_from_location(self, *, snapshot_location: str, snapshot_name: str, session_id: str) -> Any:
        """A Reference: also for a golden that is not there, so that syrupy never takes it for a new one to write."""
        scenario, key = snapshot_name.split("/")
        return Reference(folder=self.folder, scenario=scenario, key=key)

    def discover_snapshots(self, **_: Any) -> SnapshotCollections:
        """Nothing: `harness golden status` knows orphans, and syrupy may not delete what it calls unused."""
        return SnapshotCollections()

    def read_snapshot_collection(self, *, snapshot_location: str) -> SnapshotCollection:
        """An empty collection; see `discover_snapshots`."""
        return SnapshotCollection(location=snapshot_location)

    @classmethod
    def write_snapshot_collection(cls, *, snapshot_collection: SnapshotCollection, **_: Any) -> None:
        """Raises GoldenError: only a person who has read the difference accepts a golden."""
        raise GoldenError(f"{snapshot_collection.location} is not written. {UPDATE}")

    def delete_snapshots(self, *, snapshot_location: str, snapshot_names: set[str]) -> None:
        """Raises GoldenError: goldens are deleted by hand."""
        raise GoldenError(f"syrupy does not delete {snapshot_location}: see `harness golden status` for orphans")
