"""A conversion of a checkpoint that has a manifest writes its own, and its leaves are traced to the source's."""

from __future__ import annotations

import itertools

import pytest

from impl.checkpoint import CheckpointError, check, checksum, convert, save_tree
from impl.checkpoint.checksums.lineage import untraced
from impl.checkpoint.checksums.manifest import FILE, read_manifest
from impl.checkpoint.progress import untold
from impl.checkpoint.storage.index import Extent, read_index

AXIS = 1


@pytest.fixture
def source(tmp_path, model_leaves, nested):
    """Layers apart, sealed."""
    save_tree(
        tmp_path / "source", nested({f"params/params/{name}": leaf for name, leaf in model_leaves(4, -1).items()})
    )
    checksum(tmp_path / "source", untold)
    return tmp_path / "source"


def test_every_leaf_is_traced_through_stacking_and_back(source, tmp_path):
    convert(source, tmp_path / "stacked", to="nnx", layout="scanned", scan_axis=AXIS)
    report = convert(tmp_path / "stacked", tmp_path / "back", to="linen", layout="unscanned", scan_axis=AXIS)
    manifests = [read_manifest(each) for each in (source, tmp_path / "stacked", tmp_path / "back")]
    for before, after in itertools.pairwise(manifests):
        assert untraced(before, after) == ()
        assert after.source != ""
    assert all(check(tmp_path / name, untold).findings == () for name in ("stacked", "back"))
    stacked = manifests[1].leaves["model/decoder/layers/mlp/wo/kernel"]
    wanted = [manifests[0].leaves[f"params/params/decoder/layers_{i}/mlp/wo/kernel"].values for i in range(4)]
    assert list(stacked.layers[str(AXIS)]) == wanted
    assert [trace.digest for trace in stacked.made_of] == wanted
    assert f"{FILE} was carried over: {report.leaves} leaves are traced to the source's" in report.notes


def test_bytes_that_changed_after_they_were_sealed_do_not_pass_in_the_copy(tmp_path, draw):
    # Orbax restores a flipped byte silently, and so does a conversion: the digests that came along tell.
    source, layers = tmp_path / "source", {f"layers_{i}": {"w": draw(f"w{i}", (20, 30))} for i in range(4)}
    save_tree(source, {"params": {"params": {"decoder": layers}}})
    checksum(source, untold)
    place = read_index(source)["params.params.decoder.layers_2.w/0.0"]
    assert isinstance(place, Extent)
    with (source / place.file).open("r+b") as file:
        file.seek(place.offset + place.length // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    convert(source, tmp_path / "stacked", to="nnx", layout="scanned", scan_axis=AXIS)
    (finding,) = check(tmp_path / "stacked", untold).findings
    assert (finding.name, finding.kind) == ("model/decoder/layers/w", "values")


def test_without_a_manifest_none_is_made_up_and_a_damaged_one_is_refused(source, tmp_path):
    manifest = source / FILE
    text = manifest.read_text()
    manifest.write_text(text.replace('"shape"', '"form"', 1))
    with pytest.raises(CheckpointError, match="the manifest is damaged"):
        convert(source, tmp_path / "out", to="nnx", layout="keep", scan_axis=AXIS)
    assert [each.name for each in tmp_path.iterdir()] == ["source"]
    manifest.unlink()
    convert(source, tmp_path / "out", to="nnx", layout="keep", scan_axis=AXIS)
    assert not list((tmp_path / "out").rglob(FILE))
