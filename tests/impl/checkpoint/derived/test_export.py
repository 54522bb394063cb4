"""export: weights alone, rounded to the nearest, every layer in its own place."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from impl.checkpoint import CheckpointError, ExportWishes, export, export_text, inspect, load_tree, save_tree
from impl.checkpoint.leaves.dtypes import to_bfloat16
from impl.checkpoint.storage.values import Reader
from tests.impl.checkpoint import zoo
from tests.impl.checkpoint.dialects.test_dialects import same
from tests.impl.checkpoint.parts import typed


def nearest(values):
    """Oracle in integers: the bits of float32, cut to 16 with a tie to even."""
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)).astype(np.uint16)


def test_rounding_is_to_the_nearest_and_ties_to_even():
    drawn = np.random.default_rng(8).integers(0, 0x7F000000, 20_000, dtype=np.uint32)
    ties = (np.arange(1 << 12, dtype=np.uint32) << 16 | 0x8000) + np.uint32(0x3F000000)
    values = np.concatenate([drawn, ties, ties + 1, ties - 1]).view(np.float32)
    values = np.concatenate([values, -values])
    assert to_bfloat16(values).view(np.uint16).tobytes() == nearest(values).tobytes()


def test_float64_is_rounded_once():
    above_a_tie = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8 - 2.0**-40, 1 + 2.0**-8, -1 - 2.0**-8 - 2.0**-50])
    assert to_bfloat16(above_a_tie).astype(float).tolist() == [1 + 2.0**-7, 1.0, 1.0, -1 - 2.0**-7]
    assert above_a_tie.astype(np.float32).astype(ml_dtypes.bfloat16)[0] == 1.0  # twice rounded, it errs
    drawn = np.random.default_rng(9).normal(0, 3, 5000)
    found = to_bfloat16(drawn).astype(float)
    for away in (np.inf, -np.inf):
        neighbour = np.nextafter(found.astype(ml_dtypes.bfloat16), ml_dtypes.bfloat16(away)).astype(float)
        assert (np.abs(found - drawn) <= np.abs(neighbour - drawn)).all()
    special = to_bfloat16(np.array([np.nan, np.inf, -np.inf, 1e300, -0.0])).astype(float)
    assert np.isnan(special[0])
    assert special[1:].tolist() == [np.inf, -np.inf, np.inf, 0.0]
    assert np.signbit(special[4])


def rounded(node):
    if isinstance(node, dict):
        return {key: rounded(child) for key, child in node.items()}
    if node.dtype == np.float32:
        return nearest(node).view(ml_dtypes.bfloat16)
    return node.astype(ml_dtypes.bfloat16)


def wanted(family, layout):
    model = zoo.nest(zoo.weights(layout, "none"))
    if family == "nnx":
        return zoo.valued(rounded(model))
    return {"params": {"params": rounded(model)}, "opt_state": {}, "step": np.int32(0)}


@pytest.mark.parametrize(
    ("source", "start", "end", "to", "layers"),
    [
        ("D1", "blocks", "blocks_apart", "auto", {"layers": 7}),
        ("D4", "scanned_blocks", "scanned_blocks_apart", "linen", {"layers": 7}),
        ("D3", "two", "two_apart", "auto", {"dense_layers": 2, "moe_layers": 11}),
        ("D2", "axis0", "apart", "nnx", {"layers": 3}),
    ],
)
def test_unrolled_weights_alone(tmp_path, source, start, end, to, layers):
    save_tree(tmp_path / "source", zoo.tree(source, start, "adamw", "rngs"))
    wishes = {"to": to, "dtype": "bfloat16", "layout": "unscanned", "scan_axis": 1}
    report = export(tmp_path / "source", tmp_path / "out", ExportWishes(**wishes))
    family = to if to != "auto" else {"D1": "linen", "D3": "nnx"}[source]
    same(load_tree(tmp_path / "out" / "0" / "items"), wanted(family, end))
    assert report.groups == {f"decoder/{name}": f"{name}_<i>, {depth} layers" for name, depth in layers.items()}
    assert (report.format, report.source_dialect) == (family, source)
    assert report.left_out["optimizer"] == 2 * len(zoo.weights(start, "none")) + (3 if source in ("D1", "D2") else 2)
    assert "step 0" in export_text(report)
    found = inspect(tmp_path / "out")
    assert (found.dialect, found.custom_metadata) == ("D4" if family == "nnx" else "D1", {"scan_layers": False})


def test_a_stack_and_its_numbers_may_be_kept(tmp_path):
    save_tree(tmp_path / "source", zoo.tree("D1", "axis2", "sgd", "reference"))
    report = export(
        tmp_path / "source", tmp_path / "out", ExportWishes(to="linen", dtype="keep", layout="keep", scan_axis=1)
    )
    model = zoo.nest(zoo.weights("axis2", "reference"))
    same(load_tree(tmp_path / "out"), {"params": {"params": model}, "opt_state": {}, "step": np.int32(0)})
    assert (report.rounded, report.left_out["reference_params"]) == (0, len(zoo.weights("axis2", "none")))
    assert inspect(tmp_path / "out").custom_metadata == {"scan_layers": True}


def test_nothing_but_weights_is_read(tmp_path, monkeypatch):
    tree = zoo.tree("D2", "two", "adamw", "rngs")
    tree["params"]["params"]["decoder"]["key"] = typed("a key among weights")
    save_tree(tmp_path / "source", tree)
    opened = Reader.open
    seen = []
    monkeypatch.setattr(Reader, "open", lambda self, array: [seen.append(array.name), opened(self, array)][1])
    export(
        tmp_path / "source", tmp_path / "out", ExportWishes(to="linen", dtype="keep", layout="unscanned", scan_axis=1)
    )
    assert seen
    assert all(name.startswith("params.params.") for name in seen)
    found = load_tree(tmp_path / "out")["params"]["params"]
    assert found["decoder"]["key"].impl == "rbg"
    wanted = zoo.nest(zoo.weights("two_apart", "none"))
    wanted["decoder"]["key"] = typed("a key among weights")
    same(found, wanted)


def quantised(tree):
    return zoo.tree("D1", "axis1", "none", "aqt")


def staged(tree):
    tree["params"]["params"]["decoder"]["pipeline_module"] = {"layers": {"w": zoo.values("stages", (2, 3, 4))}}
    return tree


def huge(tree):
    tree["params"]["params"]["mtp_block"]["mtp_layer_0"]["w"] = np.array([1.0, 3.4e38], np.float32)
    return tree


def lacking(tree):
    del tree["params"]["params"]["decoder"]["layers"]["mlp"]
    tree["params"]["params"]["decoder"]["layers"]["odd"] = zoo.values("odd", (5, 7))
    return tree


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (quantised, r"mlp/wi_0/AqtDotGeneral_0/qrhs/frozen/qvalue: a quantised tensor"),
        (staged, r"decoder/pipeline_module/layers/w: a stage of a pipeline"),
        (huge, r"mtp_block/mtp_layer_0/w: 3.39\d+e\+38 has no bfloat16"),
        (lacking, r"decoder/layers/odd: 7 layers at axis 1, the other leaves .* have 3"),
    ],
)
def test_refused_and_nothing_written(tmp_path, spoil, words):
    save_tree(tmp_path / "source", spoil(zoo.tree("D1", "axis1", "none", "none")))
    with pytest.raises(CheckpointError, match=words):
        export(
            tmp_path / "source",
            tmp_path / "out",
            ExportWishes(to="auto", dtype="bfloat16", layout="unscanned", scan_axis=1),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
