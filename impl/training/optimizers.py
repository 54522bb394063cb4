"""Optimizers through optax: one factory for both sides, and adam_pax, which optax does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from impl.math.precision import full
from impl.training.settings import TrainSettings

__all__ = ["AdamPaxState", "adam_pax", "learning_rate", "optimizer"]


def learning_rate(settings: TrainSettings) -> float | Callable[[jax.Array], jax.Array]:
    """The rate: a number for schedule "scalar", else a function of the step."""
    peak = settings.learning_rate
    if settings.schedule == "scalar":
        return peak
    if settings.schedule == "constant":
        return optax.constant_schedule(peak)
    decay = settings.schedule_steps - settings.warmup_steps
    pieces = [
        optax.linear_schedule(0.0, peak, settings.warmup_steps),
        optax.cosine_decay_schedule(peak, decay, alpha=settings.final_fraction),
        optax.constant_schedule(0.0),
    ]
    return optax.join_schedules(pieces, [settings.warmup_steps, settings.schedule_steps])


def optimizer(settings: TrainSettings) -> optax.GradientTransformation:
    """The gradient transformation that `settings` describe. Clipping is the train step's, not the optimizer's."""
    rate = learning_rate(settings)
    if settings.opt_type == "sgd":
        return optax.sgd(rate)
    build = optax.adamw if settings.opt_type == "adamw" else adam_pax
    return build(
        rate,
        b1=settings.adam_b1,
        b2=settings.adam_b2,
        eps=settings.adam_eps,
        eps_root=settings.adam_eps_root,
        weight_decay=settings.adam_weight_decay,
    )


class AdamPaxState(NamedTuple):
    """count int32 (), first moments mu and second moments nu like the parameters."""

    count: jax.Array  # type: ignore[assignment]  # as in Optax, the field hides tuple.count
    mu: optax.Updates
    nu: optax.Updates


def adam_pax(
    rate: float | Callable[[jax.Array], jax.Array],
    *,
    b1: float,
    b2: float,
    eps: float,
    eps_root: float,
    weight_decay: float,
) -> optax.GradientTransformation:
    """Adam whose bias correction is in the decay: d_t = d (1 - d**(t-1)) / (1 - d**t) with t = count + 1.

    The decays are float32; moments keep the parameters' dtype. update = -rate (mu / (sqrt(nu + eps_root) + eps)
    + weight_decay * parameter). `rate` may be a number or a function of the count. Source: Praxis' Adam, as MaxText
    describes it for GPT-3 (facts/maxtext.md 1.16).
    """

    def init(params: optax.Params) -> AdamPaxState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamPaxState(jnp.zeros([], jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(grads: optax.Updates, state: AdamPaxState, params: optax.Params | None = None):
        if params is None:
            raise ValueError("adam_pax decays weights: call update with the parameters")
        t = state.count.astype(full()) + 1.0
        mu = jax.tree.map(lambda m, g: _moment(m, g, _decay(b1, t)), state.mu, grads)
        nu = jax.tree.map(lambda n, g: _moment(n, jnp.square(g), _decay(b2, t)), state.nu, grads)
        now = rate(state.count) if callable(rate) else rate

        def step(m: jax.Array, n: jax.Array, p: jax.Array) -> jax.Array:
            return -now * (m / (jnp.sqrt(n + eps_root) + eps) + weight_decay * p)

        return jax.tree.map(step, mu, nu, params), AdamPaxState(state.count + 1, mu, nu)

    return optax.GradientTransformation(init, update)


def _decay(d: float, t: jax.Array) -> jax.Array:
    return d * (1.0 - d ** (t - 1.0)) / (1.0 - d**t)


def _moment(old: jax.Array, new: jax.Array, decay: jax.Array) -> jax.Array:
    decay = decay.astype(old.dtype)
    return decay * old + (1 - decay) * new
