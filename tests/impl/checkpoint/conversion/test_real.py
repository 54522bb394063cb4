"""Every checkpoint that MaxText wrote: described rightly, converted there and back with every byte kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from impl.checkpoint import as_data, compare, comparison_text, convert, inspect, inspection_text
from impl.checkpoint.leaves.leaf import same_bytes
from impl.checkpoint.leaves.tree import flatten, nest
from impl.checkpoint.storage.whole_trees import locate, read_arrays


def same_tree(one: Path, two: Path) -> int:
    left, right = (flatten(nest(read_arrays(locate(path)))).leaves for path in (one, two))
    assert set(left) == set(right)
    different = [path for path in left if not same_bytes(left[path], right[path])]
    assert different == []
    return len(left)


def name_of(real: Path) -> str:
    return real.parts[-1] if "__" in real.parts[-1] else real.parts[-3]


def test_inspect_says_what_the_tree_json_says(real):
    record, name = inspect(real), name_of(real)
    nnx = name.endswith("nnx")
    assert record.dialect == ("D3" if name.startswith("pr3846") else "D2" if nnx else "D1")
    depth = {"deepseek2real_scan_nnx": {"dense_layers": 1, "moe_layers": 3}}.get(name, {"layers": 4})
    word = "stacked at axis 1" if "_scan_" in name else "layers/<i>" if record.dialect == "D3" else "layers_<i>"
    assert record.layout == {f"decoder/{group}": f"{word}, {layers} layers" for group, layers in depth.items()}
    assert record.optimizer == "adamw (chain of count, mu, nu)"
    assert record.step_dtype == ("uint32" if record.dialect == "D3" else "int32")
    assert ("rngs" in record.aux) == nnx
    assert record.custom_metadata == ({} if record.dialect == "D3" else {"scan_layers": "_scan_" in name})
    listing = real.with_name(f"{real.name}.tree.json")
    if listing.is_file():
        rows = {row.path: list(row.shape) for row in record.rows}
        listed = json.loads(listing.read_text())
        wanted = {path.replace("[", "").replace("]", ""): leaf["shape"] for path, leaf in listed.items()}
        assert rows == {path: shape for path, shape in wanted.items() if shape is not None}
    assert record.rows[0].path in inspection_text(record)
    assert json.loads(json.dumps(as_data(record)))["leaves"] == len(record.rows)


def test_to_the_other_dialect_and_back_keeps_every_byte(real, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    report = convert(real, there, to="auto", layout="keep", scan_axis=1)
    returned = convert(there, back, to="auto", layout="keep", scan_axis=1)
    assert (report.source_dialect, returned.target_dialect) == (inspect(real).dialect, inspect(real).dialect)
    assert inspect(there).dialect == report.target_dialect != report.source_dialect
    assert {row.path for row in (*report.dropped, *returned.dropped)} <= {"opt_state/1"}
    # A list shows its empty optimizer state as None, which no leaf is written for.
    assert same_tree(real, back) - returned.leaves == (0 if returned.target_dialect == "D3" else 1)
    across = compare(real, there, values="values", rtol=0.0, atol=0.0, only="all")
    assert across.equal, comparison_text(across)
    assert compare(real, there, values="structure", rtol=0.0, atol=0.0, only="all").compared == across.compared


def test_layers_apart_and_together_again_keeps_every_byte(real, tmp_path):
    record = inspect(real)
    stacked = any("stacked" in words for words in record.layout.values())
    first, second = ("unscanned", "scanned") if stacked else ("scanned", "unscanned")
    moved = convert(real, tmp_path / "moved", to=record.dialect, layout=first, scan_axis=1)
    convert(tmp_path / "moved", tmp_path / "back", to=record.dialect, layout=second, scan_axis=1)
    assert inspect(tmp_path / "moved").layout != record.layout
    assert inspect(tmp_path / "moved").custom_metadata["scan_layers"] is not stacked
    shared = any("streams are shared" in note for note in moved.notes)
    assert shared == (not stacked and "rngs" in record.aux)
    if not shared:
        same_tree(real, tmp_path / "back")
    parts = compare(real, tmp_path / "back", values="values", rtol=0.0, atol=0.0, only="opt")
    weights = compare(real, tmp_path / "back", values="values", rtol=0.0, atol=0.0, only="params")
    assert parts.equal, comparison_text(parts)
    assert weights.equal, comparison_text(weights)
    across = compare(real, tmp_path / "moved", values="values", rtol=0.0, atol=0.0, only="all")
    assert across.equal, comparison_text(across)


def test_output_restores_through_orbax_with_a_target(real, tmp_path):
    report = convert(real, tmp_path / "out", to="auto", layout="keep", scan_axis=1)
    tree = nest(read_arrays(locate(tmp_path / "out")))
    weights = tree["model"] if report.target_dialect == "D3" else tree["params"]["params"]
    scale = weights["decoder"]["decoder_norm"]["scale"]
    plain = ocp.PyTreeCheckpointer().restore(tmp_path / "out" / "items")
    found = plain["model"] if report.target_dialect == "D3" else plain["params"]["params"]
    assert np.asarray(found["decoder"]["decoder_norm"]["scale"]).tobytes() == scale.tobytes()
    if any(row.dtype.startswith("key") for row in inspect(tmp_path / "out").rows):
        return
    restored = ocp.StandardCheckpointer().restore(tmp_path / "out" / "items", tree)
    different = [
        path
        for path, leaf in flatten(restored).leaves.items()
        if leaf is not None and np.asarray(leaf).tobytes() != flatten(tree).leaves[path].tobytes()
    ]
    assert different == []
