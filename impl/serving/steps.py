"""The two steps of serving as pure functions around a side's forward pass. Letters as in `impl.math`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from impl.math.sampling import token_log_probs
from impl.serving.choice import Choice, choose
from impl.serving.insertion import insert_leaves
from impl.serving.records import DecodeState, Prefix, Result

__all__ = ["Forward", "generate", "insert", "prefill"]

Forward = Callable[[Any, Any, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]
"""(weights, cache, tokens, positions, segment ids), the last three int32 [B, T] -> (logits [B, T, V], cache after)."""


def prefill(
    forward: Forward, weights: Any, cache: Any, tokens: jax.Array, true_length: jax.Array, choice: Choice
) -> tuple[Prefix, Result]:
    """Run the prompt tokens[0, :true_length] through a fresh cache of one row and choose the first token.

    Padding has segment id 0. It is behind the prompt and invalid, so no query of the prompt attends to it; what its
    own queries yield is not used.
    """
    positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    segment_ids = (positions < true_length).astype(jnp.int32)
    logits, cache = forward(weights, cache, tokens, positions, segment_ids)
    last = jax.lax.dynamic_slice_in_dim(logits, true_length - 1, 1, axis=1)
    chosen, log_probs = _chosen(choice, last)
    next_pos = jnp.full((1, 1), true_length, jnp.int32)
    prefix = Prefix(last, cache, next_pos, jnp.zeros_like(next_pos), chosen, log_probs)
    return prefix, Result(chosen, log_probs, jnp.ones((1, 1), bool))


def generate(
    forward: Forward, room: int, weights: Any, state: DecodeState, choice: Choice
) -> tuple[DecodeState, Result]:
    """Feed each slot its last token and choose the next. `room`: tokens that a slot can hold beside its prompt.

    A slot that is empty or has no room left stays as it is, bit for bit, cache and all.
    """
    active = (state.next_pos > 0) & (state.generated_tokens < room)
    # An inactive slot may stand one position beyond the last: the table of learned positions has no such row.
    positions = jnp.where(active, state.next_pos, 0)
    logits, cache = forward(weights, state.cache, state.tokens, positions, active.astype(jnp.int32))
    chosen, log_probs = _chosen(choice, logits)
    after = DecodeState(
        logits=jnp.where(active[:, :, None], logits, state.logits),
        cache=cache,
        next_pos=state.next_pos + active,
        generated_tokens=state.generated_tokens + active,
        tokens=jnp.where(active, chosen, state.tokens),
        token_logp=jnp.where(active, log_probs, state.token_logp),
    )
    return after, Result(after.tokens, after.token_logp, active)


def insert(
    axes: Mapping[tuple[str, ...], tuple[Any, ...]], prefix: Prefix, state: DecodeState, slot: jax.Array
) -> DecodeState:
    """`state` with `prefix` in row `slot`; other rows stay bit for bit. `axes`: logical axes of each cache leaf."""

    def put(row: jax.Array, rows: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(rows, row, slot, axis=0)

    return DecodeState(
        logits=put(prefix.logits, state.logits),
        cache=insert_leaves(prefix.cache, state.cache, axes, slot),
        next_pos=put(prefix.next_pos, state.next_pos),
        generated_tokens=put(prefix.generated_tokens, state.generated_tokens),
        tokens=put(prefix.tokens, state.tokens),
        token_logp=put(prefix.token_logp, state.token_logp),
    )


def _chosen(choice: Choice, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Tokens and their log probabilities [B, 1] from logits [B, 1, V]."""
    tokens = choose(choice, logits[:, 0])
    return tokens[:, None], token_log_probs(logits[:, 0], tokens)[:, None]
