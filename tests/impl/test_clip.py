"""QK-Clip on both sides: what attention records, real states with scans and without, proofs, refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from impl.config import ConfigError, tiny
from impl.latent import PEAKS
from impl.linen.mla import LatentAttention as LinenAttention
from impl.names import addresses, gather
from impl.nnx.mla import LatentAttention as NnxAttention
from impl.params import draw
from impl.sides import side
from impl.stacks import places
from impl.tiny import family
from impl.training.auxiliary import SownError, blank, collected
from impl.training.clip import clipped_heads
from impl.training.objective import Terms, added, metrics
from impl.training.settings import TrainSettings
from impl.trees import flat, nested
from tests.impl.math import clip_oracle, latent_oracle
from tests.impl.test_latent import POSITIONS, SEGMENTS, weights_of
from tests.impl.test_staging import EVERY_PART, proved

SIDES, NAMES = ("linen", "nnx"), ("deepseek_mla", "deepseek_mla_lora")
SETTINGS = TrainSettings(adam_eps=1e-4, schedule="constant")


def clipped(name, **settings):
    return family(name, use_qk_clip=True, **{"qk_clip_threshold": 4.6, **settings})


def linen(config, weights, x):
    """What Linen's attention sows."""
    params = nested({tuple(name.split("/")): value for name, value in weights.items()})
    module = LinenAttention(config, "train")
    return module.apply({"params": params}, x, POSITIONS, SEGMENTS, mutable=["intermediates"])[1]


def nnx_(config, weights, x):
    """What NNX's attention sows; nothing of it stays in the module."""
    module = NnxAttention(config, rngs=nnx.Rngs(0))
    nnx.update(module, nested({tuple(name.split("/")): jnp.asarray(value) for name, value in weights.items()}))
    sown = nnx.capture(module, nnx.Intermediate)(x, POSITIONS, SEGMENTS, "train")[1]
    assert not jax.tree.leaves(nnx.state(module, nnx.Intermediate))
    return nnx.to_pure_dict(sown)


@pytest.mark.parametrize("run", [linen, nnx_])
@pytest.mark.parametrize("name", NAMES)
def test_attention_records_its_largest_logits_and_clipped_kernels_bring_them_down(name, run):
    config = clipped(name)
    weights, x = weights_of(config), np.random.default_rng(2).normal(0.2, 1.4, (2, 7, config.emb_dim))
    x, wide = x.astype(np.float32), {leaf: value.astype(np.float64) for leaf, value in weights.items()}
    with jax.default_matmul_precision("highest"):
        found = flat(run(config, weights, x))
        assert flat(run(family(name), weights, x)) == {}
        ((path, largest),) = [(path, leaf) for path, leaf in found.items() if PEAKS in path]
        assert largest.shape == (2, config.num_query_heads)
        expected = latent_oracle.largest_logits(wide, x.astype(float), POSITIONS, SEGMENTS, config)
        # because: float32 through norms, three products and a rotation, against the oracle in float64.
        np.testing.assert_allclose(largest, expected, rtol=2e-5)
        threshold, still = float(np.sort(expected.max(axis=0))[1]) - 0.1, config.qk_nope_head_dim
        kernels = {"wq_b" if config.q_lora_rank else "query": clip_oracle.queries, "wkv_b": clip_oracle.keys_and_values}
        for kernel, rule in kernels.items():
            weights[f"{kernel}/kernel"] = rule(wide[f"{kernel}/kernel"], expected.max(axis=0), threshold, still).astype(
                np.float32
            )
        after = flat(run(config, weights, x))[path].max(axis=0)
    # because: the same, of kernels that were rounded to float32 besides.
    np.testing.assert_allclose(after, np.minimum(expected.max(axis=0), threshold), rtol=2e-5)


def recorded(config, rows, tail):
    """What a stack of attention layers sows, scanned or not, at paths that end in `tail`; layer i gives rows[i]."""
    found = {}
    for row, place in zip(rows, places(config), strict=True):
        path = (*place.path("layers_{i}"), "self_attention", PEAKS, *tail)
        found.setdefault(path, []).append(row)
    return {path: jnp.stack(group) if config.scan_layers else group[0] for path, group in found.items()}


@pytest.mark.parametrize("tail", [("0",), ()], ids=["tuple", "array"])
@pytest.mark.parametrize("scan", [False, True])
def test_both_shapes_of_what_is_recorded_are_read(scan, tail):
    config = clipped("deepseek_mla", scan_layers=scan, load_balance_loss_weight=0.0)
    rows = np.random.default_rng(1).normal(3.0, 2.0, (3, 5, 4)).astype(np.float32)
    found = collected(recorded(config, rows, tail), config)
    np.testing.assert_array_equal(found[PEAKS], rows.max(axis=1))
    assert blank(config)[PEAKS].shape == found[PEAKS].shape
    lacking = {path: leaf for path, leaf in recorded(config, rows, tail).items() if "dense" in path[1]}
    with pytest.raises(SownError, match="decoder/moe_layers/0 sowed max_logits 0 times"):
        collected(lacking, config)


def test_of_microbatches_the_largest_logit_stays_while_losses_add_up():
    one, two = (
        Terms(*map(jnp.float32, (6.0, 0.5, 3.0)), {PEAKS: jnp.asarray(rows), "moe_lb_loss": jnp.float32(0.25)})
        for rows in ([[1.0, -5.0]], [[-2.0, -4.0]])
    )
    config = clipped("deepseek_mla")
    total = added(
        added(Terms(*map(jnp.float32, (0, 0, 0)), {**blank(config), PEAKS: -1e38 + 0 * one.aux[PEAKS]}), one), two
    )
    assert total.aux[PEAKS].tolist() == [[1.0, -4.0]]
    assert (float(total.xent_sum), float(total.aux["moe_lb_loss"])) == (12.0, 0.5)
    assert float(metrics(total, {}, TrainSettings())["learning/max_logits"]) == 1.0
    assert "learning/max_logits" not in metrics(total._replace(aux={}), {}, TrainSettings())


def real(name, config, weights):
    """The parameters of a real train state as the step hands them over, and their leaves by neutral name."""
    trainer = side(name).Trainer(config, SETTINGS, weights)
    tables = {"linen": "layers_{i}", "nnx": "layers/{i}"}

    def leaves(tree):
        found = flat(tree)
        return gather(
            {path[path[0] == "params" :]: leaf for path, leaf in found.items()}, addresses(config, tables[name])
        )

    made = {
        "linen": lambda: trainer.state.params,
        "nnx": lambda: nnx.to_pure_dict(nnx.filter_state(trainer.state, nnx.Param)["model"]),
    }
    return made[name](), leaves


@pytest.mark.parametrize(("scan", "axis"), [(False, 1), (True, 0), (True, 1)])
@pytest.mark.parametrize("name", SIDES)
def test_on_a_real_state_one_head_of_one_layer_is_clipped_and_a_threshold_not_reached_changes_nothing(name, scan, axis):
    config = clipped(NAMES[axis], scan_layers=scan, param_scan_axis=axis)
    weights = draw(config, 5)
    tree, leaves = real(name, config, weights)
    reached = jnp.full((3, 4), config.qk_clip_threshold)
    calm = clipped_heads(tree, reached, config)
    assert jax.tree.structure(calm) == jax.tree.structure(tree)
    assert all(np.array_equal(value, weights[leaf]) for leaf, value in leaves(calm).items())
    found = leaves(clipped_heads(tree, reached.at[2, 3].mul(1.7), config))
    changed = sorted(leaf for leaf, value in found.items() if not np.array_equal(value, weights[leaf]))
    query, up = (f"decoder/moe_layers/1/self_attention/{part}/kernel" for part in ("query", "wkv_b"))
    query = query.replace("query", "wq_b") if config.q_lora_rank else query
    assert changed == sorted([query, up])
    largest = np.full(4, 4.6) * [1, 1, 1, 1.7]
    # because: a float32 quotient, its root and one product, each rounded, against float64.
    np.testing.assert_allclose(found[query], clip_oracle.queries(weights[query], largest, 4.6, 7), rtol=1e-6)
    np.testing.assert_allclose(found[up], clip_oracle.keys_and_values(weights[up], largest, 4.6, 7), rtol=1e-6)
    assert np.array_equal(found[query][:, :3], weights[query][:, :3])


def test_a_tree_without_the_kernel_is_told_so():
    config = clipped("deepseek_mla")
    with pytest.raises(SownError, match=r"decoder/dense_layers/0 has no kernel query to clip; nearest: "):
        clipped_heads(
            {"decoder": {"dense_layers_0": {"self_attention": {"wq": jnp.ones(3)}}}}, jnp.ones((3, 4)), config
        )


def test_the_whole_train_step_is_proved():
    config = clipped("deepseek_mla_lora", scan_layers=True, remat_policy="full")
    found = proved("linen", "nnx", config, train=TrainSettings(gradient_accumulation_steps=3))
    assert {part: proof.proved for part, proof in found.items()} == dict.fromkeys(EVERY_PART, True)
    assert [leaf for leaf in found["step"].equal if PEAKS in leaf] == ["loss/learning/max_logits"]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: tiny(use_qk_clip=True), "use_qk_clip=True with attention_type='global'.*use attention_type='mla'"),
        (lambda: clipped("deepseek_mla", qk_clip_threshold=0.0), "qk_clip_threshold=0.0 must be a positive number"),
        (lambda: clipped("deepseek_mla", qk_clip_threshold=float("inf")), "qk_clip_threshold=inf must be a positive"),
        (lambda: clipped("deepseek_mla", attn_logits_soft_cap=9.0), "attn_logits_soft_cap=9.0: logits are bounded"),
    ],
    ids=["attention", "zero", "infinite", "capped"],
)
def test_what_makes_no_sense_is_refused(made, words):
    with pytest.raises(ConfigError, match=words):
        made()
