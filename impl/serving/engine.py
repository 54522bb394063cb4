"""The engine's verbs, once: what both sides do around their own forward pass. Letters as in `impl.math`, B slots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from impl.config import ModelConfig
from impl.math.precision import full
from impl.names import gather
from impl.serving import requests, steps
from impl.serving.choice import Choice, Greedy
from impl.serving.kv import Mode
from impl.serving.layout import cache_addresses
from impl.serving.records import DecodeState, Prefix, Result
from impl.trees import flat

__all__ = ["ServingEngine"]

GREEDY = Greedy()


class ServingEngine(ABC):
    """Serves a model from `slots` slots. Nothing is donated: every state that was ever returned stays valid.

    A side gives its own forward pass, cache and parameters; `layout` is how it spells unscanned layers. A slot holds
    at most max_target_length - max_prefill_predict_length generated tokens; one that has them ends: generate leaves
    it as it is, and says so in Result.active. Insert into it to use it again.

    Raises ValueError for fewer than one slot or a model that cannot be served, BridgeError for weights that do not fit.
    """

    layout: str

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray], slots: int):
        requests.check_servable(config)
        self.config, self.slots = config, requests.count(slots)
        self._table = cache_addresses(config, self.layout)
        self.load_params(weights)
        self._prefill = jax.jit(partial(steps.prefill, self._forward("prefill")))
        room = config.max_target_length - config.max_prefill_predict_length
        self._generate = jax.jit(partial(steps.generate, self._forward("autoregressive"), room))
        self._insert = jax.jit(partial(steps.insert, self._cache_axes()))
        self._blank = self._fresh_cache(1)

    @abstractmethod
    def load_params(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take up weights by neutral name, in weight_dtype. Raises BridgeError unless they fit exactly."""

    @abstractmethod
    def _loaded(self) -> Any:
        """What load_params took up, as the pytree that the forward pass takes."""

    @abstractmethod
    def _forward(self, mode: Mode) -> steps.Forward:
        """The model's pass in `mode`: one row for "prefill", all slots for "autoregressive"."""

    @abstractmethod
    def _fresh_cache(self, rows: int) -> Any:
        """The cache of `rows` empty slots, as nested dicts of arrays."""

    @abstractmethod
    def _cache_axes(self) -> dict[tuple[str, ...], tuple[Any, ...]]:
        """Path of each cache leaf -> its logical axes, as the framework holds them."""

    def init_decode_state(self) -> DecodeState:
        """All slots empty: zeros."""
        column = jnp.zeros((self.slots, 1), jnp.int32)
        logits = jnp.zeros((self.slots, 1, self.config.vocab_size), jnp.dtype(self.config.dtype))
        cache = self._fresh_cache(self.slots)
        return DecodeState(logits, cache, column, column, column, jnp.zeros((self.slots, 1), full()))

    def prefill(self, padded_tokens: np.ndarray, true_length: int, choice: Choice = GREEDY) -> tuple[Prefix, Result]:
        """The prompt padded_tokens[:true_length], int [P'] or [1, P'], through the model; the first token is chosen.

        Each P' is compiled once. Raises ValueError for a prompt longer than max_prefill_predict_length, a true length
        outside 1..P', or tokens (padding included) outside the vocabulary.
        """
        tokens, length = requests.prompt(padded_tokens, true_length, self.config)
        with jax.default_matmul_precision(self.config.matmul_precision):
            return self._prefill(self._loaded(), self._blank, tokens, np.int32(length), choice)

    def insert(self, prefix: Prefix, decode_state: DecodeState, slot: int) -> DecodeState:
        """`decode_state` with `prefix` in `slot`, whose generated part is emptied; other slots stay bit for bit.

        Raises ValueError for a slot that is not there, or records of another engine's shape.
        """
        self._check(decode_state)
        return self._insert(prefix, decode_state, np.int32(requests.slot(slot, self.slots)))

    def bulk_insert(self, prefix: Prefix, decode_state: DecodeState, slots: Sequence[int]) -> DecodeState:
        """`prefix` in each of `slots`. Raises ValueError as `insert`, and for no slot or one named twice."""
        for slot in requests.several(slots, self.slots):
            decode_state = self.insert(prefix, decode_state, slot)
        return decode_state

    def generate(self, decode_state: DecodeState, choice: Choice = GREEDY) -> tuple[DecodeState, Result]:
        """One token more in every slot that is neither empty nor out of room; those others stay bit for bit."""
        self._check(decode_state)
        with jax.default_matmul_precision(self.config.matmul_precision):
            return self._generate(self._loaded(), decode_state, choice)

    def cache(self, record: DecodeState | Prefix) -> dict[str, np.ndarray]:
        """Cache leaves by neutral name ("decoder/layers/0/self_attention/KVCache_0/cached_ar_key"), layers apart."""
        return gather({path: np.asarray(leaf) for path, leaf in flat(record.cache).items()}, self._table)

    def _check(self, state: DecodeState) -> None:
        rows = state.next_pos.shape[0]
        if rows != self.slots:
            raise ValueError(f"a decode state of {rows} slots given to an engine of {self.slots}: use one for both")
