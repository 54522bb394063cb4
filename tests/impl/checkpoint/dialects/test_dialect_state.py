"""What lies beside weights, what no layout can be changed of, and slots that fit no model."""

from __future__ import annotations

import pytest

from impl.checkpoint import CheckpointError
from impl.checkpoint.comparison.alignment import aligned
from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.leaves.tree import Flat, nest
from impl.names import addresses, scatter
from impl.params import draw
from impl.statistics import statistic_addresses
from impl.tiny import family
from impl.trees import nested
from tests.impl.checkpoint import zoo
from tests.impl.checkpoint.dialects.test_dialects import moved, normal, same
from tests.impl.checkpoint.parts import beside


def pipeline(tree):
    stages = {"self_attention": {"kernel": zoo.values("stages", (2, 3, 6, 4))}}
    tree["params"]["params"]["decoder"]["pipeline_module"] = {"layers": stages}


def chunks(tree):
    tree["params"]["params"]["decoder"]["dense_layers_0_2"] = {"mlp": {"kernel": zoo.values("chunk", (6, 2, 4))}}


@pytest.mark.parametrize(
    ("add", "leaf"),
    [(pipeline, "pipeline_module/layers/self_attention/kernel"), (chunks, "dense_layers_0_2/mlp/kernel")],
)
def test_layers_whose_order_is_not_in_the_tree_are_carried_and_not_taken_apart(add, leaf):
    tree = zoo.tree("D1", "axis1", "none", "none")
    add(tree)
    same(moved(moved(tree, "D3"), "D1"), tree)
    with pytest.raises(CheckpointError, match=rf"decoder/{leaf}: a stage of a pipeline or a chunk of a stack"):
        moved(tree, "D1", "unscanned")


def test_two_groups_that_would_get_one_name_are_refused():
    tree = zoo.tree("D1", "scanned_blocks", "none", "none")
    tree["params"]["params"]["decoder"]["layers_0"] = {"mlp": {"wo": {"kernel": zoo.values("other", (10, 6))}}}
    with pytest.raises(CheckpointError, match="decoder/layers_0/mlp/wo/kernel: two layers get this name"):
        moved(tree, "D1", "unscanned")


def test_frozen_base_weights_of_adapters_stay_weights():
    tree = zoo.tree("D3", "axis1", "adamw", "lora")
    for salt in ("mu", "nu"):
        slot = tree["optimizer"]["opt_state"]["0"][salt]
        adapters = {path: leaf for path, leaf in normal(slot).leaves.items() if "lora" in "/".join(path)}
        tree["optimizer"]["opt_state"]["0"][salt] = nest(Flat(leaves=adapters, lists=frozenset()))
    canonical = canonicalise(normal(tree))
    assert len(canonical.weights) == len(zoo.weights("axis1", "lora"))
    assert (canonical.aux, canonical.notes) == ({}, ())


def test_a_kernel_that_was_taken_out_for_its_quantised_twin_stays_an_empty_place():
    tree = zoo.tree("D1", "axis1", "none", "aqt")
    tree["params"]["params"]["decoder"]["layers"]["mlp"]["wi_0"] = {"kernel": {}}
    same(moved(moved(tree, "D4"), "D1"), tree)
    apart = moved(tree, "D1", "unscanned")["params"]["params"]["decoder"]
    assert apart["layers_2"]["mlp"]["wi_0"] == {"kernel": {}}
    same(moved(moved(tree, "D3", "unscanned"), "D1", "scanned"), tree)


def test_what_no_name_tells_in_a_collection_stays_beside_the_model():
    tree = zoo.tree("D1", "apart", "adamw", "batch_stats")
    tree["params"]["batch_stats"]["decoder"]["layers_1"]["mask"] = zoo.values("mask", (6,))
    tree["params"]["sparsity"] = {"decoder": {"layers_0": {"mask": zoo.values("mask", (4,))}}}
    there = moved(tree, "D3")
    assert sorted(there["collections"]) == ["batch_stats", "sparsity"]
    assert set(normal(there["collections"]["batch_stats"]).leaves) == {("decoder", "layers", "1", "mask")}
    same(moved(there, "D1"), tree)
    same(moved(moved(tree, "D2"), "D1"), tree)


def test_a_trained_mean_is_a_weight():
    tree = zoo.tree("D1", "apart", "adamw", "none")
    for place in (tree["params"], tree["opt_state"][0]["mu"], tree["opt_state"][0]["nu"]):
        place["params"]["decoder"]["layers_1"]["norm"] = {"mean": zoo.values("m", (6,)), "var": zoo.values("v", (6,))}
    same(moved(moved(tree, "D3"), "D1"), tree)
    same(moved(moved(tree, "D4"), "D1"), tree)


def test_leaves_that_are_none_are_carried():
    tree = {"params": {"params": zoo.nest(zoo.weights("apart", "lora"))}}
    for i in range(3):
        tree["params"]["params"]["decoder"][f"layers_{i}"]["mlp"]["wo"]["lora_a.kernel"] = None
    for dialect in ("D3", "D4"):
        there = moved(tree, dialect, "scanned")
        assert canonicalise(normal(there)).dialect == dialect
        same(moved(there, "D1", "unscanned"), tree)


def extra(tree):
    tree["opt_state"][0]["mu"]["params"]["decoder"]["layers_3"] = {"mlp": {"w": zoo.values("extra", (6, 10))}}


def without_twin(tree):
    del tree["opt_state"][0]["nu"]["params"]["decoder"]["decoder_norm"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (extra, "slot 0/mu: 0/mu/params/decoder/layers_3/mlp/w and 0 other leaves mirror no weight"),
        (without_twin, "slot 0/nu: decoder/decoder_norm/scale is not there, slot 0/mu has it"),
    ],
)
def test_slots_that_do_not_fit_the_model_are_refused(spoil, words):
    tree = zoo.tree("D1", "apart", "adamw", "none")
    spoil(tree)
    for dialect in zoo.DIALECTS:
        with pytest.raises(CheckpointError, match=words):
            moved(tree, dialect)


@pytest.mark.parametrize("scanned", [False, True])
def test_statistics_of_8_bit_products_go_where_impl_has_them(scanned):
    config = family("llama2", num_decoder_layers=3, quantization="fp8", scan_layers=scanned)
    tables = {
        layout: (addresses(config, layout), statistic_addresses(config, layout))
        for layout in ("layers_{i}", "layers/{i}")
    }
    params, remembered = tables["layers_{i}"]
    stats = {name: zoo.values(name, (5,)) for name in remembered}
    linen = {
        "params": nested(scatter(draw(config, 7), params)),
        "_overwrite_with_gradient": nested(scatter(stats, remembered)),
    }
    nnx_params, nnx_stats = tables["layers/{i}"]
    nnx = nested({**scatter(draw(config, 7), nnx_params), **scatter(stats, nnx_stats)})
    same(moved({"params": linen}, "D3"), {"model": nnx})
    same(moved({"model": nnx}, "D1"), {"params": linen})


@pytest.mark.parametrize("layout", ["axis0", "axis2", "two", "blocks", "scanned_blocks", "next"])
def test_a_comparison_brings_both_layouts_to_one(layout):
    apart = {"axis0": "apart", "axis2": "apart"}.get(layout, f"{layout}_apart")
    for kind, state in (("muon", "fp8"), ("adamw", "aqt")):
        one, two = zoo.tree("D1", layout, kind, state), zoo.tree("D3", apart, kind, state)
        left, right, notes = aligned(canonicalise(normal(one)), canonicalise(normal(two)))
        # Without its largest kernel a stack at axis 2 fits other axes too; the other side decides.
        assert [note for note in notes if "several scan axes fit; axis 2 was taken" not in note] == []
        for mine, theirs in ((left.slots, right.slots), (left.collections, right.collections)):
            assert set(mine) == set(theirs) != set()
            for name in mine:
                same(Flat(leaves=mine[name], lists=frozenset()), Flat(leaves=theirs[name], lists=frozenset()))
        same(Flat(leaves=left.weights, lists=frozenset()), Flat(leaves=right.weights, lists=frozenset()))


def test_streams_beside_bare_parameters_wrapped_or_not():
    layout, streams = "apart", beside("apart", "rngs")[1]
    model = zoo.nest(zoo.numbered(zoo.weights(layout, "none") | streams, True))
    wanted = {
        "params": {"params": zoo.nest(zoo.weights(layout, "none"))},
        "nnx_aux": {"model": zoo.nest(streams)},
    }
    bare = zoo.valued(model)
    same(moved(bare, "D2"), wanted)
    same(moved(wanted, "D4"), bare)
    raw = zoo.valued(zoo.nest(zoo.numbered(zoo.weights(layout, "none"), True)))
    raw["decoder"]["to_nnx__rngs"] = {"params": {"key": zoo.values("raw", (2,), "uint32")}}
    found = moved(raw, "D2")
    assert list(found["nnx_aux"]["model"]["decoder"]) == ["to_nnx__rngs"]
    same({"params": found["params"]}, {"params": wanted["params"]})
