"""What layers sow, collected by name: in forward order, once each or not at all; and routing biases that it moves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.experts import BALANCE, LOADS, only_chooses, router, told
from impl.names import addresses, gather, scatter
from impl.params import draw
from impl.tiny import family
from impl.training.auxiliary import SownError, blank, collected, moved_biases
from impl.training.objective import (
    Batch,
    Terms,
    auxiliary_shares,
    finish,
    metrics,
    named_terms,
    with_auxiliary,
)
from impl.training.settings import TrainSettings
from impl.trees import flat, nested

SCANNED = family("gpt_oss", scan_layers=True, routed_bias_update_rate=0.5)
APART = family("gpt_oss", routed_bias_update_rate=0.5, num_decoder_layers=11)


def stacked(name, *values):
    """What a scanned gpt-oss of two cycles sows, layer i yielding values[i]."""
    return {
        ("decoder", "layers", f"layers_{inner}", "GptOssMlp", name, "0"): jnp.stack([values[inner], values[inner + 2]])
        for inner in (1, 0)
    }


def test_sown_values_are_in_forward_order_whatever_the_tree():
    rows = [jnp.arange(5.0) + 10 * layer for layer in range(4)]
    sown = stacked(LOADS, *rows) | stacked(BALANCE, *map(jnp.float32, (1.0, 2.0, 4.0, 9.0)))
    found = collected(sown, SCANNED)
    np.testing.assert_array_equal(found[LOADS], np.stack(rows))
    assert float(found[BALANCE]) == 4.0
    apart = {("decoder", f"layers_{at}", "GptOssMlp", BALANCE, "0"): jnp.float32(at) for at in (10, 2, 0, 1)}
    apart |= {("decoder", "layers", str(at), "GptOssMlp", BALANCE, "0"): jnp.float32(at) for at in range(3, 10)}
    loads = {(*path[:-2], LOADS, "0"): jnp.full(5, value) for path, value in apart.items()}
    found = collected(apart | loads, APART)
    assert (float(found[BALANCE]), found[LOADS][:, 3].tolist()) == (5.0, list(range(11)))
    assert {name: value.shape for name, value in blank(APART).items()} == {
        name: value.shape for name, value in found.items()
    }
    assert collected({}, family("llama2")) == blank(family("llama2")) == {}


def test_a_layer_that_sowed_nothing_or_twice_is_named():
    sown = stacked(BALANCE, *map(jnp.float32, range(4))) | stacked(LOADS, *(jnp.zeros(5) for _ in range(4)))
    lacking = {path: leaf for path, leaf in sown.items() if path[2:5:2] != ("layers_1", BALANCE)}
    with pytest.raises(SownError, match=r"decoder/layers/1 sowed moe_lb_loss 0 times, expected once; nearest: "):
        collected(lacking, SCANNED)
    with pytest.raises(SownError, match=r"decoder/layers/0 sowed moe_lb_loss 2 times"):
        collected(sown | {("decoder", "layers", "layers_0", "GptOssMlp", BALANCE, "1"): jnp.zeros(2)}, SCANNED)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_each_layers_bias_moves_by_its_own_loads_and_nothing_else_does(axis):
    config = family("deepseek", scan_layers=axis >= 0, param_scan_axis=max(axis, 0))
    values, table = draw(config, 3), addresses(config, "layers_{i}")
    loads = jnp.asarray([[5, 0, 1, 2, 9, 9, 9, 5], [7] * 8, [0, 8] * 4], jnp.float32)
    tree = jax.tree.map(jnp.asarray, nested(scatter(values, table)))
    after = gather(flat(moved_biases(tree, loads, config)), table)
    for name, value in values.items():
        step = 0.0
        if only_chooses(config, name):
            step = 0.01 * np.sign(np.asarray(loads).mean(1) - np.asarray(loads).T).T[int(name.split("/")[2])]
        np.testing.assert_allclose(after[name], value + np.float32(step), rtol=1e-6, err_msg=name)
    assert sum(only_chooses(config, name) for name in values) == 3


def test_a_bias_is_in_the_gradient_only_where_maxtexts_release_puts_it():
    biases = [f"decoder/moe_layers/{layer}/DeepSeekMoeBlock_0/MoeBlock_0/gate/bias" for layer in range(3)]
    settings = {"biased_weights": True, "n_routing_groups": 0, "topk_routing_group": 0, "load_balance_loss_weight": 0.0}
    assert all(only_chooses(family("deepseek"), name) for name in biases)
    assert not any(only_chooses(family("deepseek", **settings), name) for name in biases)
    theirs = family("deepseek", load_balance_probabilities="maxtext-0.2.4")
    assert not any(only_chooses(theirs, name) for name in biases)
    assert all(only_chooses(theirs.overriding({"load_balance_loss_weight": 0.0}), name) for name in biases)


def test_a_model_without_the_bias_is_told_so():
    config = family("mixtral", routed_bias_update_rate=0.5, routed_bias=True)
    tree = nested(scatter(draw(family("mixtral"), 3), addresses(family("mixtral"), "layers_{i}")))
    with pytest.raises(SownError, match=r"decoder/layers/0 has no routing bias to move"):
        moved_biases(tree, jnp.ones((3, 5)), config)


def test_an_auxiliary_loss_is_a_mean_over_microbatches_whatever_they_weigh():
    whole, parts = TrainSettings(), TrainSettings(gradient_accumulation_steps=4)
    segments = np.array([[1, 1, 2, 0], [0, 0, 0, 0]], np.int32)
    batch = Batch(*[segments] * 5)
    plain, further = family("mixtral"), family("mixtral", mtp_num_layers=1)
    assert auxiliary_shares(batch, whole, plain) == {BALANCE: 1.0}
    assert float(auxiliary_shares(batch, parts, plain)[BALANCE]) == 0.75
    # Of three tokens one has a target a token further: its loss counts three times, and a third of that is left.
    shares = auxiliary_shares(batch, parts, further)
    assert {name: float(share) for name, share in shares.items()} == {BALANCE: 0.75, "mtp_loss_sum": 3.0}
    terms = Terms(*map(jnp.float32, (6.0, 0.5, 3.0)))
    value, told_terms = with_auxiliary(jnp.float32(2.0), terms, {BALANCE: jnp.float32(0.4)}, {BALANCE: 0.75})
    assert float(value) == pytest.approx(2.3)
    assert list(named_terms(told_terms)) == ["xent_sum", "z_sum", "weights", BALANCE]
    assert float(finish(told_terms, whole)) == pytest.approx(2.4)
    assert float(finish(told_terms, parts)) == pytest.approx(2.1)
    assert float(metrics(told_terms, {}, parts)["learning/moe_lb_loss"]) == pytest.approx(0.1)
    assert "learning/moe_lb_loss" not in metrics(terms, {}, whole)


def test_what_a_configuration_routes_by():
    assert told(family("llama2")) == ()
    assert told(family("mixtral")) == (BALANCE,)
    assert told(family("deepseek")) == (BALANCE, LOADS)
    plain, scored = router(family("qwen3_moe")), router(family("deepseek"))
    assert (plain.softmax, plain.renormalise, plain.scaling, plain.groups) == (True, True, 1.0, 0)
    assert (scored.softmax, scored.renormalise, scored.scaling, scored.groups, scored.kept) == (False, True, 2.5, 4, 2)
    assert not router(family("deepseek", routed_score_func="softmax")).renormalise
