"""compare: every kind of difference is found, and nothing compared is a failure."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

from impl.checkpoint import (
    CheckpointError,
    Terms,
    Tolerance,
    as_data,
    compare,
    compare_under,
    comparison_text,
    save_tree,
)
from impl.checkpoint.comparison.distance import BLOCK, SAME, distance, distance_within
from impl.checkpoint.progress import untold


def run(tmp_path, left, right, **options):
    save_tree(tmp_path / "a", left)
    save_tree(tmp_path / "b", right)
    options = {"values": "values", "rtol": 0.0, "atol": 0.0, "only": "all"} | options
    return compare(tmp_path / "a", tmp_path / "b", **options)


def kinds(record):
    return [(row.part, row.path, row.reason) for row in record.differences]


def shared_streams(counts):
    """Seven layers apart, whose stream is one variable, and as two blocks of three and a remainder, as MaxText writes.

    counts: of the two blocks' streams; those of the layers apart and of the remainder are 4.
    """
    kernels = [np.arange(6, dtype=np.float32).reshape(2, 3) + np.float32(10.5 * i) for i in range(7)]
    stream = {"rngs": {"params": {"count": np.uint32(4)}}}
    blocks = {f"layers_{j}": {"mlp": {"kernel": np.stack([kernels[j], kernels[j + 3]], 1)}} for j in range(3)}
    of_blocks = {"layers_0": {"rngs": {"params": {"count": np.array(counts, np.uint32)}}}}
    whole = {f"layers_{i}": {"mlp": {"kernel": kernel}} for i, kernel in enumerate(kernels)}
    scanned = {"layers": blocks, "layers_remainder": {"layers_0": {"mlp": {"kernel": kernels[6]}}}}
    of_scanned = {"layers": of_blocks, "layers_remainder": {"layers_0": stream}}
    return [
        {"params": {"params": {"decoder": weights}}, "nnx_aux": {"model": {"decoder": aux}}, "step": np.int32(3)}
        for weights, aux in ((whole, {"layers_0": stream}), (scanned, of_scanned))
    ]


def test_streams_that_blocks_share_are_held_against_those_that_layers_share(tmp_path):
    same, other = tmp_path / "same", tmp_path / "other"
    for left, right in (shared_streams((4, 4)), shared_streams((4, 4))[::-1]):
        folder = same / str("layers" in left["params"]["params"]["decoder"])
        record = run(folder, left, right)
        assert kinds(record) == []
        assert record.compared == 7 + 7 + 1
    record = run(other, *shared_streams((4, 5)))
    assert kinds(record) == [("state", f"decoder/layers_{i}/rngs/params/count", "value") for i in (3, 4, 5)]


def test_each_kind_of_difference_is_named(tmp_path, linen_tree):
    left, right = linen_tree(3, -1), linen_tree(3, 1)
    weights, mu = right["params"]["params"], right["opt_state"][0]["mu"]["params"]
    weights["token_embedder"]["embedding"][4, 2] = np.nextafter(weights["token_embedder"]["embedding"][4, 2], 9)
    mu["decoder"]["layers"]["mlp"]["wi_0"]["kernel"][5, 2, 7] += 0.5
    mu["decoder"]["decoder_norm"]["scale"] = mu["decoder"]["decoder_norm"]["scale"].astype(np.float64)
    mu["token_embedder"]["embedding"] = mu["token_embedder"]["embedding"].T.copy()
    del right["opt_state"][0]["nu"]["params"]["decoder"]["decoder_norm"]
    right["opt_state"][2]["other"] = np.float32(3.5)
    right["step"] = np.int32(6)
    record = run(tmp_path, left, right)
    assert kinds(record) == [
        ("weights", "token_embedder/embedding", "value"),
        ("slot 0/mu", "decoder/decoder_norm/scale", "dtype"),
        ("slot 0/mu", "decoder/layers_2/mlp/wi_0/kernel", "value"),
        ("slot 0/mu", "token_embedder/embedding", "shape"),
        ("slot 0/nu", "decoder/decoder_norm/scale", "missing"),
        ("scalars", "2/other", "extra"),
        ("step", "", "value"),
    ]
    assert (record.missing, record.extra, record.differing) == (1, 1, 5)
    assert (record.differences[0].gap.ulp, record.differences[0].gap.where) == (1, (4, 2))
    assert (record.differences[2].gap.differing, record.differences[2].gap.where) == (1, (5, 7))
    assert record.differences[2].gap.max_abs == pytest.approx(0.5)
    text = comparison_text(record)
    assert all(word in text for word in ("DIFFERENT", "1 missing, 1 extra, 5 differing", "decoder/layers_2/mlp"))
    assert json.loads(json.dumps(as_data(record)))["outcome"] == "DIFFERENT"


def test_structure_alone_reads_no_values_but_sees_shapes(tmp_path, linen_tree):
    left, right = linen_tree(3, 1), linen_tree(3, 1)
    right["params"]["params"]["token_embedder"]["embedding"] += 1
    right["params"]["params"]["decoder"]["decoder_norm"]["scale"] = np.arange(4.0, dtype=np.float32)
    record = run(tmp_path, left, right, values="structure")
    assert kinds(record) == [("weights", "decoder/decoder_norm/scale", "shape")]


def test_tolerances_are_relative_to_the_left(tmp_path, linen_tree):
    left, right = linen_tree(3, 1), linen_tree(3, 1)
    embedding = right["params"]["params"]["token_embedder"]["embedding"]
    embedding *= np.float32(1 + 2e-4)
    assert run(tmp_path, left, right, rtol=3e-4).equal
    record = compare(tmp_path / "a", tmp_path / "b", values="values", rtol=1e-4, atol=0.0, only="params")
    assert record.differences[0].gap.differing == embedding.size
    assert record.differences[0].gap.max_rel == pytest.approx(2e-4, rel=1e-2)


def test_only_a_part(tmp_path, linen_tree):
    left, right = linen_tree(3, 1), linen_tree(3, 1)
    right["opt_state"][0]["mu"]["params"]["token_embedder"]["embedding"] += 1
    assert run(tmp_path, left, right, only="params").equal
    record = compare(tmp_path / "a", tmp_path / "b", values="values", rtol=0.0, atol=0.0, only="opt")
    assert kinds(record) == [("slot 0/mu", "token_embedder/embedding", "value")]
    assert [row.part for row in record.not_compared] == ["weights"]


def test_streams_on_one_side_are_listed_not_ignored(tmp_path, linen_tree):
    left, right = linen_tree(3, 1), linen_tree(3, 1)
    left["nnx_aux"] = {"model": {"decoder": {"rngs": {"params": {"count": np.uint32(3)}}}}}
    record = run(tmp_path, left, right)
    assert record.equal
    assert [(row.part, row.leaves) for row in record.not_compared] == [("state", 1)]
    assert "only the left" in record.not_compared[0].reason
    assert "random streams" in comparison_text(record)


def test_nothing_compared_is_a_failure(tmp_path, model_leaves, nested):
    tree = {"params": {"params": nested(model_leaves(3, 1))}}
    record = run(tmp_path, tree, tree, only="opt")
    assert (record.outcome, record.equal, record.compared) == ("NOTHING COMPARED", False, 0)


def test_another_number_of_layers_and_a_shuffled_layer_are_seen(tmp_path, linen_tree):
    left, right = linen_tree(3, 1), linen_tree(4, -1)
    record = run(tmp_path, left, right, only="params")
    assert {row.reason for row in record.differences} == {"extra"}
    assert all(row.path.startswith("decoder/layers_3/") for row in record.differences)
    swapped = linen_tree(3, -1)
    decoder = swapped["params"]["params"]["decoder"]
    decoder["layers_0"], decoder["layers_1"] = decoder["layers_1"], decoder["layers_0"]
    save_tree(tmp_path / "c", swapped)
    record = compare(tmp_path / "a", tmp_path / "c", values="values", rtol=0.0, atol=0.0, only="params")
    assert record.differing == 12


def test_an_ambiguous_stack_is_read_as_the_other_side_needs(tmp_path, draw, nested):
    square = draw("square", (4, 4, 5))
    layers = {f"decoder/layers_{index}/mlp/kernel": square[index] for index in range(4)}
    stacked = {"params": {"params": nested({"decoder/layers/mlp/kernel": square})}}
    record = run(tmp_path, stacked, {"params": {"params": nested(layers)}})
    assert record.notes == ("decoder/layers: several scan axes fit; axis 1 was taken",)
    assert record.differing == 4  # both axes give the right shapes, so the usual one is taken, and says so


def test_options_out_of_range(tmp_path, linen_tree):
    with pytest.raises(CheckpointError, match="rtol=-1"):
        run(tmp_path, linen_tree(3, 1), linen_tree(3, 1), rtol=-1.0)
    with pytest.raises(CheckpointError, match="ulp=-2"):
        compare_under(tmp_path / "a", tmp_path / "b", Terms(values="values", tolerance=Tolerance(ulp=-2)), untold)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_ulp_counts_neighbours_across_zero(dtype):
    tiny = np.array([1], f"uint{8 * np.dtype(dtype).itemsize}").view(dtype)
    assert distance(-tiny, tiny, 0.0, 0.0).ulp == 2
    one = np.array([1.5, -2.25, 3.0], dtype)
    next_one = (one.view(f"uint{8 * one.itemsize}") + np.array([0, 3, 1], f"uint{8 * one.itemsize}")).view(dtype)
    found = distance(one, next_one, 0.0, 0.0)
    assert (found.differing, found.ulp, found.where) == (2, 3, (1,))


def test_zeros_of_two_signs_nan_and_infinity():
    one = np.array([0.0, np.nan, 2.5, np.inf], np.float32)
    assert distance(one, np.array([-0.0, np.nan, 2.5, np.inf], np.float32), 0.0, 0.0).differing == 1
    assert distance(one, np.array([-0.0, np.nan, 2.5, np.inf], np.float32), 1e-6, 0.0).differing == 0
    found = distance(one, np.array([0.0, 3.0, 2.5, -np.inf], np.float32), 0.5, 0.5)
    assert (found.differing, found.max_abs) == (2, np.inf)


def test_whole_numbers_have_no_ulp():
    found = distance(np.array([3, 2**31], np.uint32), np.array([5, 2**31], np.uint32), 0.0, 0.0)
    assert (found.differing, found.max_abs, found.ulp, found.where) == (1, 2.0, -1, (0,))
    far = distance(np.array([2**62 + 1, -(2**63)], np.int64), np.array([2**62, 2**63 - 1], np.int64), 0.0, 0.0)
    assert (far.differing, far.first, far.max_abs) == (2, (0,), float(2**64 - 1))
    near = distance(np.array([2**62 + 1], np.int64), np.array([2**62], np.int64), 0.0, 0.0)
    assert (near.differing, near.max_abs) == (1, 1.0)


def test_units_in_the_last_place_are_let_pass_as_asked():
    one = np.array([1.5, -2.25, 3.0, 0.0, np.inf, np.nan], np.float32)
    two = (one.view(np.int32) + np.array([1, 3, 0, -(2**31), 0, 5], np.int32)).view(np.float32)
    assert distance_within(one, two, Tolerance(), (0,)).differing == 4
    found = distance_within(one, two, Tolerance(ulp=2), (0,))
    assert (found.differing, found.ulp, found.first) == (1, 3, (1,))
    assert distance_within(one, two, Tolerance(ulp=3), (0,)) == SAME
    assert distance_within(one, two, Tolerance(ulp=2, atol=1e-3), (0,)) == SAME
    greatest = np.array([np.finfo(np.float32).max, 1.0], np.float32)
    assert distance_within(greatest, np.array([np.inf, np.nan], np.float32), Tolerance(ulp=9), (0,)).differing == 2
    whole = np.array([3, 4], np.int32)
    assert distance_within(whole, whole + 1, Tolerance(ulp=9), (0,)).differing == 2


def test_signs_of_zero_and_nan_are_counted_and_said(tmp_path, linen_tree):
    left, right = linen_tree(3, 1), linen_tree(3, 1)
    embeddings = [side["params"]["params"]["token_embedder"]["embedding"] for side in (left, right)]
    embeddings[0][3, 1], embeddings[1][3, 1] = 0.0, -0.0
    embeddings[0][7, 2], embeddings[1][7, 2] = np.nan, np.nan
    embeddings[1][8, 0] = np.nan
    (row,) = run(tmp_path, left, right).differences
    assert (row.gap.differing, row.size, row.gap.nan, row.gap.zeros, row.gap.first, row.gap.where) == (
        2,
        78,
        1,
        1,
        (3, 1),
        (8, 0),
    )
    assert "2 of 78 (1 NaN, 1 of sign of zero)" in comparison_text(run(tmp_path / "again", left, right))
    terms = Terms(values="values", tolerance=Tolerance(ulp=1))
    (row,) = compare_under(tmp_path / "a", tmp_path / "b", terms, untold).differences
    assert (row.gap.differing, row.gap.nan, row.gap.zeros) == (1, 1, 0)


def test_blocks_and_pieces_count_every_element_once():
    left = np.arange(3 * BLOCK + 5, dtype=np.float32).reshape(-1, 1)
    right = left.copy()
    places = [0, BLOCK - 1, BLOCK, 2 * BLOCK + 7, 3 * BLOCK + 4]
    right[places, 0] += np.float32([1, 2, 3, 64, 5])
    found = distance_within(left, right, Tolerance(), (10, 0))
    assert (found.differing, found.first, found.where, found.max_abs) == (5, (10, 0), (2 * BLOCK + 17, 0), 64.0)
    assert (found.left, found.right) == (str(left[places[3], 0]), str(right[places[3], 0]))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "complex64", "float8_e4m3fn", "int4"])
def test_every_dtype_is_compared(dtype):
    one = np.array([1, 0, 1, 1], dtype)
    two = np.array([1, 0, 0, 1], dtype)
    found = distance_within(one, two, Tolerance(), (0,))
    assert (found.differing, found.first, found.max_abs) == (1, (2,), 1.0)
    assert distance_within(one, one.copy(), Tolerance(), (0,)) == SAME
