"""What is differentiated and what is reported: means over weighted tokens, norms without an order, clipping."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.loss import EPSILON
from impl.training.objective import Batch, Terms, clipped, finish, global_norm, metrics, objective, scaled
from impl.training.settings import TrainSettings

WHOLE, PARTS = TrainSettings(), TrainSettings(gradient_accumulation_steps=3)
TERMS = Terms(jnp.float32(123.5), jnp.float32(1.75), jnp.float32(37.0))
EMPTY = Terms(jnp.float32(0.0), jnp.float32(0.0), jnp.float32(0.0))


def drawn(shape, seed, size=1.0):
    return np.random.default_rng([seed, *shape]).normal(0.3, size, shape).astype(np.float32)


def leaves():
    """Leaves of unlike sizes, none of which outweighs the rest: the order of addition shows."""
    return [drawn((shape, 7), at, 1.0 + 0.1 * at) for at, shape in enumerate((3, 5, 2, 11, 4, 6))]


def test_the_norm_is_the_same_to_the_bit_in_every_order_of_leaves():
    orders = list(itertools.permutations(leaves()))
    assert len({np.asarray(global_norm(list(order))).tobytes() for order in orders[::7]}) == 1
    naive = {float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in order))) for order in orders[::7]}
    assert len(naive) > 1, "these leaves would not show an order"


def test_the_norm_is_the_float64_one_within_float32_rounding():
    exact = np.sqrt(sum(np.sum(leaf.astype(np.float64) ** 2) for leaf in leaves()))
    found = global_norm({"a": leaves()[:4], "b": leaves()[4:]})
    assert (found.dtype, found.shape) == (jnp.float32, ())
    # n squares are rounded once each and added in any order: at most n roundings of the sum, half of that of its root.
    count = sum(leaf.size for leaf in leaves())
    assert abs(float(found) - exact) <= 0.5 * (count + 2) * np.finfo(np.float32).eps * exact
    assert abs(float(found) - exact) <= 1e-6 * exact


def test_the_norm_of_bfloat16_leaves_is_taken_in_float32():
    narrow = [jnp.asarray(leaf, jnp.bfloat16) for leaf in leaves()]
    wide = [leaf.astype(jnp.float32) for leaf in narrow]
    assert global_norm(narrow).dtype == jnp.float32
    assert float(global_norm(narrow)) == float(global_norm(wide))


def test_clipping_scales_down_to_the_threshold_and_never_up():
    grads = {"w": drawn((3, 5), 1), "b": drawn((7,), 2)}
    norm = global_norm(grads)
    limit = TrainSettings(gradient_clipping_threshold=0.25)
    after = clipped(grads, norm, limit)
    assert float(global_norm(after)) == pytest.approx(0.25, rel=1e-6)
    for name, value in grads.items():
        np.testing.assert_allclose(after[name], value * (0.25 / float(norm)), rtol=1e-6)
    for threshold in (0.0, float(norm), float(norm) * 1.5):
        kept = clipped(grads, norm, TrainSettings(gradient_clipping_threshold=threshold))
        for name, value in grads.items():
            np.testing.assert_array_equal(kept[name], value)


def test_clipping_keeps_the_gradients_dtype():
    grads = {"w": jnp.asarray(drawn((3, 5), 1), jnp.bfloat16)}
    assert clipped(grads, global_norm(grads), TrainSettings())["w"].dtype == jnp.bfloat16


def test_gradients_of_a_sum_become_those_of_the_mean_and_zero_without_weight():
    grads = {"w": drawn((3, 5), 1), "b": jnp.asarray(drawn((7,), 2), jnp.bfloat16)}
    after = scaled(grads, jnp.float32(37.0))
    # XLA may multiply by the reciprocal of a divisor that all elements share: one rounding more.
    np.testing.assert_allclose(after["w"], grads["w"].astype(np.float64) / 37.0, rtol=1.5 * np.finfo(np.float32).eps)
    assert after["b"].dtype == jnp.bfloat16
    poisoned = {"w": grads["w"] * np.float32(np.nan)}
    np.testing.assert_array_equal(scaled(poisoned, jnp.float32(0.0))["w"], np.zeros((3, 5), np.float32))


def batch():
    random = np.random.default_rng(5)
    tokens, targets = random.integers(0, 13, (2, 3, 6)).astype(np.int32)
    weights = np.int32([[1, 1, 0, 2, 2, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]])
    return Batch(tokens, np.tile(np.arange(6, dtype=np.int32), (3, 1)), weights, targets, weights)


def exact_terms(logits, made, z_loss):
    wide = logits.astype(np.float64)
    log_z = np.log(np.sum(np.exp(wide), axis=-1))
    chosen = np.take_along_axis(wide, made.targets[..., None], axis=-1)[..., 0]
    weights = (made.target_segments != 0).astype(np.float64)
    z = z_loss * log_z**2
    return np.sum((log_z - chosen + z) * weights), np.sum(z * weights), np.sum(weights)


@pytest.mark.parametrize("settings", [WHOLE, PARTS], ids=["whole", "accumulated"])
def test_the_objective_is_the_mean_over_weighted_tokens_or_their_sum_under_accumulation(settings):
    logits, made = drawn((3, 6, 13), 4, 2.0), batch()
    value, terms = objective(logits, made, settings)
    total, z, weights = exact_terms(logits, made, settings.z_loss_multiplier)
    assert [float(term) for term in terms[:3]] == [pytest.approx(exact, rel=1e-5) for exact in (total, z, weights)]
    assert weights == 9
    assert z > 0
    assert float(value) == pytest.approx(total if settings is PARTS else total / weights, rel=1e-5)


def test_padding_does_not_enter_the_objective_and_weighted_tokens_do():
    logits, made = drawn((3, 6, 13), 4, 2.0), batch()
    slope = jax.grad(lambda at: objective(at, made, WHOLE)[0])(logits)
    touched = np.any(np.asarray(slope) != 0, axis=-1)
    np.testing.assert_array_equal(touched, made.target_segments != 0)


def test_the_reported_loss_is_the_mean_and_zero_where_nothing_counts():
    assert float(finish(TERMS, WHOLE)) == float(finish(TERMS, PARTS)) == float(np.float32(123.5) / np.float32(37.0))
    assert float(finish(EMPTY, WHOLE)) == float(finish(EMPTY, PARTS)) == 0.0


def test_metrics_have_maxtexts_names_and_say_what_they_are():
    norms = {"raw_grad_norm": jnp.float32(2.5), "grad_norm": jnp.float32(1.25), "param_norm": jnp.float32(41.0)}
    found = {name: float(value) for name, value in metrics(TERMS, norms, PARTS).items()}
    mean = 123.5 / (37.0 + EPSILON)
    assert found == {
        "learning/loss": pytest.approx(mean, rel=1e-6),
        "learning/lm_loss": pytest.approx(mean, rel=1e-6),
        "learning/perplexity": pytest.approx(np.exp(mean), rel=1e-5),
        "learning/z_loss": pytest.approx(1.75 / 37.0, rel=1e-6),
        "learning/total_weights": 37.0,
        "learning/raw_grad_norm": 2.5,
        "learning/grad_norm": 1.25,
        "learning/param_norm": 41.0,
    }
