"""What serving hands around: a filled prompt, the state of all slots, and what one call produced.

Letters as in `impl.math`; B is the number of slots, 1 in a prefix. All are pytrees of arrays, and none is ever changed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

__all__ = ["DecodeState", "Prefix", "Result"]


class Prefix(NamedTuple):
    """One prompt after its forward pass, ready to be inserted into slots.

    logits [1, 1, V] in the model's dtype, of the prompt's last token. cache: nested dict, the side's own layout.
    next_pos int32 [1, 1], where `tokens` will stand: the prompt's true length. generated_tokens int32 [1, 1], 0.
    tokens int32 [1, 1], chosen from the logits. token_logp float32 [1, 1], its natural log probability.
    """

    logits: jax.Array
    cache: Any
    next_pos: jax.Array
    generated_tokens: jax.Array
    tokens: jax.Array
    token_logp: jax.Array


class DecodeState(NamedTuple):
    """All slots. Fields as in Prefix with B rows. A slot whose next_pos is 0 is empty.

    tokens: chosen, but not yet in the cache; the next call of generate feeds them at next_pos. generated_tokens counts
    those that were fed.
    """

    logits: jax.Array
    cache: Any
    next_pos: jax.Array
    generated_tokens: jax.Array
    tokens: jax.Array
    token_logp: jax.Array


class Result(NamedTuple):
    """What one call chose: tokens int32 [B, 1], token_logp float32 [B, 1], active bool [B, 1].

    A slot that is not active (empty, or out of room) chose nothing: its other entries repeat what was there.
    """

    tokens: jax.Array
    token_logp: jax.Array
    active: jax.Array
