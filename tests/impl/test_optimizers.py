"""adam_pax against float64 NumPy, the schedules at their corners, and the factory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from impl.training.optimizers import AdamPaxState, adam_pax, learning_rate, optimizer
from impl.training.settings import TrainSettings

HYPER = {"b1": 0.9, "b2": 0.95, "eps": 1e-6, "eps_root": 3e-7, "weight_decay": 0.17}
RATES = (3e-3, 5e-3, 2e-3, 7e-3, 1e-3)
STEPS = len(RATES)


def falling(count):
    return jnp.asarray(RATES)[count]


def drawn(seed):
    random = np.random.default_rng(seed)
    return {
        "w": random.normal(0.3, 0.8, (3, 5)).astype(np.float32),
        "b": random.normal(-0.2, 0.4, 7).astype(np.float32),
    }


def oracle(params, grads, rates, settings):
    """Adam with its bias correction by the book: moments are divided by 1 - d**t instead of decaying otherwise.

    m_t = (1 - b1) * sum of b1**(t - i) g_i / (1 - b1**t) is what adam_pax's changing decay works out to.
    """
    b1, b2, eps, eps_root, weight_decay = (settings[key] for key in ("b1", "b2", "eps", "eps_root", "weight_decay"))
    params = {name: value.astype(np.float64) for name, value in params.items()}
    mu = {name: np.zeros_like(value) for name, value in params.items()}
    nu = {name: np.zeros_like(value) for name, value in params.items()}
    for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        for name in params:
            g = grad[name].astype(np.float64)
            mu[name] = b1 * mu[name] + (1 - b1) * g
            nu[name] = b2 * nu[name] + (1 - b2) * g**2
            mean, square = mu[name] / (1 - b1**t), nu[name] / (1 - b2**t)
            params[name] = params[name] - rate * (
                mean / (np.sqrt(square + eps_root) + eps) + weight_decay * params[name]
            )
    corrected = ({n: m / (1 - b1**t) for n, m in mu.items()}, {n: v / (1 - b2**t) for n, v in nu.items()})
    return params, corrected


def run(transformation, params, grads):
    state = transformation.init(params)
    for grad in grads:
        updates, state = transformation.update(grad, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize(("rate", "rates"), [(4e-3, (4e-3,) * STEPS), (falling, RATES)], ids=["scalar", "callable"])
def test_adam_pax_is_adam_in_float64_within_float32_rounding(rate, rates):
    grads = [drawn(seed) for seed in range(20, 20 + STEPS)]
    params, state = run(adam_pax(rate, **HYPER), drawn(3), grads)
    expected, (mu, nu) = oracle(drawn(3), grads, rates, HYPER)
    assert isinstance(state, AdamPaxState)
    assert (int(state.count), state.count.dtype) == (STEPS, jnp.int32)
    for name in params:
        # 1 - d**t loses up to five bits at d = 0.95, and five steps round a dozen times each: 1e-5 of the largest.
        # An update is about a hundredth of a weight, so a wrong one would show a thousand times over.
        for found, exact in ((params[name], expected[name]), (state.mu[name], mu[name]), (state.nu[name], nu[name])):
            assert np.abs(np.asarray(found, np.float64) - exact).max() < 1e-5 * np.abs(exact).max()
        assert np.abs(expected[name] - drawn(3)[name]).min() > 1e-4


def test_the_first_step_takes_the_gradient_itself_as_its_mean():
    grad = drawn(20)
    _, state = run(adam_pax(4e-3, **HYPER), drawn(3), [grad])
    for name, value in grad.items():
        np.testing.assert_array_equal(state.mu[name], value)
        np.testing.assert_array_equal(state.nu[name], value * value)


def test_adam_pax_refuses_to_update_without_parameters():
    transformation = adam_pax(4e-3, **HYPER)
    with pytest.raises(ValueError, match="adam_pax decays weights: call update with the parameters"):
        transformation.update(drawn(20), transformation.init(drawn(3)))


def test_moments_keep_the_parameters_dtype():
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), drawn(3))
    grads = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), drawn(20))
    after, state = run(adam_pax(4e-3, **HYPER), params, [grads, grads])
    assert {leaf.dtype for leaf in jax.tree.leaves((state.mu, state.nu, after))} == {jnp.dtype(jnp.bfloat16)}


def test_the_cosine_at_its_corners():
    settings = TrainSettings(learning_rate=4e-3, warmup_steps=5, schedule_steps=25, final_fraction=0.2)
    rate = learning_rate(settings)
    found = {step: float(rate(jnp.asarray(step))) for step in (0, 1, 3, 5, 10, 15, 20, 24, 25, 26, 900)}
    middle = {step: 4e-3 * (0.2 + 0.8 * 0.5 * (1 + np.cos(np.pi * (step - 5) / 20))) for step in (10, 15, 20, 24)}
    expected = {0: 0.0, 1: 0.8e-3, 3: 2.4e-3, 5: 4e-3, **middle, 25: 0.0, 26: 0.0, 900: 0.0}
    assert found == {step: pytest.approx(value, rel=1e-5, abs=1e-12) for step, value in expected.items()}
    # The last step of the cosine is the one before schedule_steps: it has all but come down to final_fraction.
    assert 0.8e-3 < found[24] < 0.83e-3


def test_a_schedule_without_warmup_begins_at_the_peak():
    rate = learning_rate(TrainSettings(learning_rate=4e-3, warmup_steps=0, schedule_steps=9))
    assert float(rate(jnp.asarray(0))) == pytest.approx(4e-3, rel=1e-6)


def test_scalar_is_a_number_and_constant_a_function_that_returns_it():
    assert learning_rate(TrainSettings(learning_rate=4e-3, schedule="scalar")) == 4e-3
    rate = learning_rate(TrainSettings(learning_rate=4e-3, schedule="constant"))
    assert [float(rate(step)) for step in (0, 777)] == [4e-3, 4e-3]


REFERENCES = {
    "adam_pax": lambda: adam_pax(4e-3, **HYPER),
    "adamw": lambda: optax.adamw(4e-3, **HYPER),
    "sgd": lambda: optax.sgd(4e-3),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_factory_passes_every_setting_on(name):
    grads = [drawn(20), drawn(21)]
    named = {f"adam_{key}": value for key, value in HYPER.items()}
    settings = TrainSettings(opt_type=name, learning_rate=4e-3, schedule="scalar", **named)
    found, _ = run(optimizer(settings), drawn(3), grads)
    expected, _ = run(REFERENCES[name](), drawn(3), grads)
    for key in found:
        np.testing.assert_array_equal(found[key], expected[key])


def test_the_optimizer_follows_the_schedule_from_step_0():
    settings = TrainSettings(opt_type="sgd", learning_rate=4e-3, warmup_steps=2, schedule_steps=9)
    transformation, grad = optimizer(settings), drawn(20)
    state, factors = transformation.init(drawn(3)), []
    for _ in range(3):
        updates, state = transformation.update(grad, state, drawn(3))
        factors.append(float(updates["w"][1, 2] / grad["w"][1, 2]))
    assert factors == [0.0, pytest.approx(-2e-3, rel=1e-5), pytest.approx(-4e-3, rel=1e-5)]
