"""An engine's verbs on abstract values, for a proof: prefill, insert, generate (greedy) and sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from impl.config import ModelConfig
from impl.serving import steps
from impl.serving.choice import Choice, Greedy, Sample
from impl.serving.layout import cache_addresses
from impl.serving.records import DecodeState, Prefix, Result
from impl.staging import Labels, Staged, named, prefixed
from impl.trees import flat, nested

__all__ = ["TEMPERATURE", "TOP_K", "Abstract", "staged_engine"]

Path = tuple[str, ...]
Values = Mapping[str, Any]
TEMPERATURE, TOP_K = 0.8, 40
"""How the programs of `impl.serving_programs` draw."""


class Abstract:
    """What a side says of its engine with nothing allocated; letters as in `impl.math`.

    weights: leaves, by name, of what the forward pass takes first. layout: how unscanned layers are spelled.
    """

    weights: dict[str, Any]
    labels: Labels
    layout: str

    def filled(self, values: Values) -> Any:
        """The weights that the forward pass takes, from arrays by name."""
        raise NotImplementedError

    def forward(self, mode: Any) -> steps.Forward:
        """The model's pass in `mode`."""
        raise NotImplementedError

    def cache(self, rows: int) -> Any:
        """The cache of `rows` empty slots."""
        raise NotImplementedError

    def axes(self) -> Mapping[Path, tuple[Any, ...]]:
        """Logical axes of the cache's leaves by path."""
        raise NotImplementedError


def staged_engine(engine: Abstract, config: ModelConfig, slots: int) -> dict[str, Staged]:
    """Verb -> Staged, for `slots` slots and prompts of max_prefill_predict_length."""
    caches = _Caches(engine, config)
    state, prefix = caches.record(DecodeState, slots), caches.record(Prefix, 1)
    room = config.max_target_length - config.max_prefill_predict_length
    whole = jax.ShapeDtypeStruct((), "int32")
    prompt = {"tokens": jax.ShapeDtypeStruct((1, config.max_prefill_predict_length), "int32"), "length": whole}
    key = {"key": jax.eval_shape(lambda: jax.random.key(0))}

    def prefill(values: Values) -> dict[str, Any]:
        blank = caches.cache(values, "prefix/")
        found = steps.prefill(
            engine.forward("prefill"), engine.filled(values), blank, values["tokens"], values["length"], Greedy()
        )
        return caches.told("prefix/", *found)

    def insert(values: Values) -> dict[str, Any]:
        held = caches.of(Prefix, values, "prefix/"), caches.of(DecodeState, values, "state/")
        return caches.told("state/", steps.insert(engine.axes(), *held, values["slot"]))

    def generate(choose: Callable[[Values], Choice], values: Values) -> dict[str, Any]:
        before = caches.of(DecodeState, values, "state/")
        after = steps.generate(engine.forward("autoregressive"), room, engine.filled(values), before, choose(values))
        return caches.told("state/", *after)

    def drawn(values: Values) -> Choice:
        return Sample(values["key"], TEMPERATURE, TOP_K)

    blank = caches.named(engine.cache(1), "prefix/")
    stacks = {**engine.labels.stacks, **caches.stacks()}
    return {
        "prefill": Staged(prefill, engine.weights | blank | prompt, stacks),
        "insert": Staged(insert, prefix | state | {"slot": whole}, stacks),
        "generate": Staged(partial(generate, lambda _: Greedy()), engine.weights | state, stacks),
        "sample": Staged(partial(generate, drawn), engine.weights | state | key, stacks),
    }


class _Caches:
    """Records with a cache in them, as arrays by name and back."""

    def __init__(self, engine: Abstract, config: ModelConfig):
        self.engine, self.config = engine, config
        self.labels = Labels(cache_addresses(config, engine.layout))
        self._paths = list(flat(engine.cache(1)))

    def stacks(self) -> dict[str, Any]:
        """Names of stacked cache leaves, in prefixes and in states."""
        return {**prefixed(self.labels.stacks, "prefix/"), **prefixed(self.labels.stacks, "state/")}

    def named(self, cache: Any, where: str) -> dict[str, Any]:
        """The leaves of a cache by name, after `where`."""
        return {where + name: leaf for name, leaf in named(cache, self.labels.parameter).items()}

    def record(self, kind: type[Prefix] | type[DecodeState], rows: int) -> dict[str, Any]:
        """A record's arrays by name, abstract."""
        where = "prefix/" if kind is Prefix else "state/"
        whole, real = (jax.ShapeDtypeStruct((rows, 1), dtype) for dtype in ("int32", "float32"))
        logits = jax.ShapeDtypeStruct((rows, 1, self.config.vocab_size), self.config.dtype)
        fields = {"logits": logits, "next_pos": whole, "generated_tokens": whole, "tokens": whole, "token_logp": real}
        return {where + name: leaf for name, leaf in fields.items()} | self.named(self.engine.cache(rows), where)

    def cache(self, values: Values, where: str) -> Any:
        """The cache among named arrays."""
        return nested({path: values[where + self.labels.parameter(path)] for path in self._paths})

    def of(self, kind: Any, values: Values, where: str) -> Any:
        """The record among named arrays."""
        fields = {name: values[where + name] for name in kind._fields if name != "cache"}
        return kind(cache=self.cache(values, where), **fields)

    def told(self, where: str, record: Prefix | DecodeState, *results: Result) -> dict[str, Any]:
        """A record, and what was chosen, as arrays by name."""
        fields = {where + name: leaf for name, leaf in record._asdict().items() if name != "cache"}
        chosen = {f"chosen/{name}": leaf for each in results for name, leaf in each._asdict().items()}
        return fields | chosen | self.named(record.cache, where)
