"""Predicting further on both sides against the plain model: the order of what is joined, the stream, the places."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

import impl.linen.sown
import impl.nnx.sown
from impl.linen.transformer import Transformer as LinenTransformer
from impl.names import addresses, scatter
from impl.nnx.state import filled
from impl.nnx.transformer import Transformer
from impl.reference.plain import further, objective
from impl.trees import nested
from tests.impl.plain.cases import SETTINGS, case

CASES = {
    "fused": case("fused", mtp_num_layers=2, mtp_loss_scaling_factor=0.4),
    "learned": case("llama2", mtp_num_layers=1, trainable_position_size=41, logits_via_embedding=True),
    "deepseek": case("deepseek", mtp_num_layers=1, first_num_dense_layers=0, num_experts=4, n_routing_groups=2),
}


def linen(case):
    model = LinenTransformer(case.config)
    params = {"params": nested(scatter(case.weights, addresses(case.config, "layers_{i}")))}
    return jax.jit(lambda params, batch: impl.linen.sown.passed(model, case.config, params, batch, jax.random.key(0)))(
        params, case.batch
    )


def nnx_(case):
    made = nnx.eval_shape(lambda: Transformer(case.config, rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(made, nnx.Param, ...)
    held = filled(params, scatter(case.weights, addresses(case.config, "layers/{i}")), ())
    run = nnx.jit(impl.nnx.sown.passed)
    return run(nnx.merge(graphdef, held, rest), case.batch)


def told(case, run):
    with jax.default_matmul_precision("highest"):
        aux = run(case)[1]
    return float(aux["mtp_loss_sum"]) / float(aux["mtp_weights"]), float(aux.get("moe_lb_loss", 0.0))


@pytest.mark.parametrize("run", [linen, nnx_])
@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_predicting_further_is_the_plain_models(name, run):
    made = CASES[name]
    expected = objective(made.config, SETTINGS, made.weights, made.batch._asdict())
    found, balance = told(made, run)
    # Float32 noise of two layers, their norms and a head: means of tens of cross entropies of about 5.
    assert found == pytest.approx(expected.mtp_loss, rel=2e-6)
    assert balance == pytest.approx(expected.moe_lb_loss, rel=2e-6)
    assert expected.loss == pytest.approx(expected.lm_loss + expected.mtp_loss + expected.moe_lb_loss)
    assert expected.mtp_loss > 0.1


def test_the_plain_model_tells_what_is_joined_first_and_what_is_normed(monkeypatch):
    made = CASES["fused"]
    arguments = made.config, SETTINGS, made.weights, made.batch._asdict()
    expected, right = objective(*arguments).mtp_loss, further.joined

    def swapped(config, weights, k, x, entered, row):
        return right(config, weights, k, entered, x, row)

    def through(config, weights, k, x, entered, row):
        scale = weights["decoder/decoder_norm/scale"]
        normed = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True)) * scale
        return right(config, weights, k, normed, entered, row)

    for wrong in (swapped, through):
        monkeypatch.setattr("impl.reference.plain.decoder.joined", wrong)
        assert abs(objective(*arguments).mtp_loss / expected - 1.0) > 1e-4
