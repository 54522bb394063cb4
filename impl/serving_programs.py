"""Programs about serving: (name of a side, settings, weights, inputs) -> channel -> name -> value.

Written once over the sides' `Engine`. Settings: "config"; "prompts", the slot that each prompt goes to; "slots", how
many there are (at least one stays empty); "generate", steps of each kind. Inputs: "prompt0"..., "continuation0"...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from impl.config import ModelConfig
from impl.inputs import prompts
from impl.requested import config_of
from impl.serving.choice import Greedy, Sample
from impl.serving.records import DecodeState, Prefix, Result
from impl.serving.staging import TEMPERATURE, TOP_K
from impl.sides import side
from impl.training.objective import Batch
from impl.training.settings import TrainSettings

__all__ = ["SLOTS", "decode", "decode_logits", "full", "requests"]

Channels = dict[str, dict[str, Any]]
Settings = Mapping[str, Any]
Values = Mapping[str, np.ndarray]

ORDER = (3, 0, 2)
SLOTS = 5
PADDING = 17
"""A token that text may contain: nothing may tell padding by its value."""


def requests(settings: Settings, seed: int) -> dict[str, np.ndarray]:
    """A prompt of its own length for each slot in use, the first as long as the prefill part, and text to follow it."""
    config, count = config_of(settings), len(_order(settings))
    steps = _steps(settings)
    asked = prompts(count=count, longest=config.max_prefill_predict_length, seed=seed)
    follow = prompts(count=count, longest=steps + count, seed=seed + 1)
    return {
        **{f"prompt{index}": prompt for index, prompt in enumerate(asked)},
        **{f"continuation{index}": text[:steps] for index, text in enumerate(follow)},
    }


def decode(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """Prompts into slots, greedy steps, sampled steps, then a slot used again: every step's record, the cache after."""
    engine, order, steps = _engine(name, settings, weights), _order(settings), _steps(settings)
    config = config_of(settings)
    outputs: dict[str, np.ndarray] = {}
    claims: dict[str, np.bool_] = {}
    state, filled = engine.init_decode_state(), []
    for index, slot in enumerate(order):
        prefix, result = _prefilled(engine, inputs[f"prompt{index}"], config)
        outputs.update(_record(f"slot{slot}/prefill", prefix, result, 0))
        before, state = state, engine.insert(prefix, state, slot)
        claims[f"inserting into slot {slot} leaves the others"] = _others_stay(engine, before, state, (slot,))
        filled.append(prefix)
    for step in range(2 * steps):
        before = state
        state, result = engine.generate(state, _choice(step, steps))
        for slot in order:
            outputs.update(_record(f"slot{slot}/step{step}", state, result, slot))
        claims.update(_step_claims(step, before, state, order))
        claims[f"step {step} leaves empty slots"] = _others_stay(engine, before, state, order)
    claims["tokens are not all equal"] = np.bool_(len({int(v) for k, v in outputs.items() if k.endswith("token")}) > 1)
    again = engine.insert(filled[0], state, order[0])
    again, result = engine.generate(again)
    outputs.update(_record("reused", again, result, order[0]))
    first = outputs[f"slot{order[0]}/step0/logits"]
    claims["a slot used again has forgotten"] = np.bool_(np.array_equal(outputs["reused/logits"], first))
    return {"outputs": outputs, "state": engine.cache(state), "claims": claims}


def decode_logits(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """Logits of a decode that is fed the given continuation: step 0 after the prompt, step j after j tokens more."""
    engine, order, steps = _engine(name, settings, weights), _order(settings), _steps(settings)
    state = engine.init_decode_state()
    for index, slot in enumerate(order):
        prefix, _ = _prefilled(engine, inputs[f"prompt{index}"], config_of(settings))
        state = engine.insert(prefix, state, slot)
    outputs = {f"slot{slot}/step0/logits": np.asarray(state.logits[slot, 0]) for slot in order}
    for step in range(steps):
        forced = np.array(state.tokens)
        for index, slot in enumerate(order):
            forced[slot] = inputs[f"continuation{index}"][step]
        state, _ = engine.generate(state._replace(tokens=jax.numpy.asarray(forced)))
        outputs.update({f"slot{slot}/step{step + 1}/logits": np.asarray(state.logits[slot, 0]) for slot in order})
    return {"outputs": outputs, "claims": _distinct(outputs)}


def full(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """What decode_logits yields, from one forward pass in training mode over each prompt with its continuation."""
    config, order, steps = config_of(settings), _order(settings), _steps(settings)
    tokens = np.full((len(order), config.max_target_length), PADDING, np.int32)
    segments = np.zeros_like(tokens)
    for index in range(len(order)):
        row = np.concatenate([inputs[f"prompt{index}"], inputs[f"continuation{index}"]])
        tokens[index, : len(row)], segments[index, : len(row)] = row, 1
    positions = np.tile(np.arange(config.max_target_length, dtype=np.int32), (len(order), 1))
    batch = Batch(tokens=tokens, positions=positions, segment_ids=segments, targets=tokens, target_segments=segments)
    logits = side(name).Trainer(config, TrainSettings(), weights).logits(batch)
    outputs = {
        f"slot{slot}/step{step}/logits": logits[index, len(inputs[f"prompt{index}"]) - 1 + step]
        for step in range(steps + 1)
        for index, slot in enumerate(order)
    }
    return {"outputs": outputs, "claims": _distinct(outputs)}


def _order(settings: Settings) -> tuple[int, ...]:
    return tuple(settings.get("prompts", ORDER))


def _steps(settings: Settings) -> int:
    return settings.get("generate", 4)


def _engine(name: str, settings: Settings, weights: Values) -> Any:
    """The side's engine. Raises ValueError for a side that serves nothing."""
    module = side(name)
    if not hasattr(module, "Engine"):
        raise ValueError(f"side {name} has no Engine: the bridged sides are trained, not served; ask linen or nnx")
    return module.Engine(config_of(settings), weights, settings.get("slots", SLOTS))


def _prefilled(engine: Any, prompt: np.ndarray, config: ModelConfig) -> tuple[Prefix, Result]:
    room = config.max_prefill_predict_length - len(prompt)
    return engine.prefill(np.pad(prompt, (0, room), constant_values=PADDING), len(prompt))


def _choice(step: int, greedy_steps: int) -> Greedy | Sample:
    """Greedy first; then drawn, one key a step."""
    if step < greedy_steps:
        return Greedy()
    return Sample(jax.random.fold_in(jax.random.key(23), step), temperature=TEMPERATURE, top_k=TOP_K)


def _record(where: str, record: DecodeState | Prefix, result: Result, row: int) -> dict[str, np.ndarray]:
    values = {
        "logits": record.logits[row, 0],
        "token": result.tokens[row, 0],
        "token_logp": result.token_logp[row, 0],
        "next_pos": record.next_pos[row, 0],
        "generated_tokens": record.generated_tokens[row, 0],
    }
    return {f"{where}/{field}": np.asarray(value) for field, value in values.items()}


def _others_stay(engine: Any, before: DecodeState, after: DecodeState, changed: tuple[int, ...]) -> np.bool_:
    """Whether every row of record and cache outside `changed` is the same, bit for bit."""

    def rows(state: DecodeState) -> Iterator[np.ndarray]:
        yield from (np.asarray(field) for name, field in state._asdict().items() if name != "cache")
        yield from engine.cache(state).values()

    kept = [row for row in range(engine.slots) if row not in changed]
    pairs = zip(rows(before), rows(after), strict=True)
    return np.bool_(bool(kept) and all(old[kept].tobytes() == new[kept].tobytes() for old, new in pairs))


def _step_claims(step: int, before: DecodeState, after: DecodeState, order: tuple[int, ...]) -> dict[str, np.bool_]:
    used = list(order)
    moved = np.asarray(after.next_pos) - np.asarray(before.next_pos)
    logits = np.asarray(after.logits)[used]
    alike = any(np.array_equal(logits[a], logits[b]) for a in range(len(used)) for b in range(a))
    return {
        f"step {step} advances positions by one": np.bool_(np.all(moved[used] == 1)),
        f"step {step}: slots differ": np.bool_(not alike),
    }


def _distinct(outputs: Mapping[str, np.ndarray]) -> dict[str, np.bool_]:
    """No two of the compared logits may be one and the same."""
    return {"all logits differ": np.bool_(len({value.tobytes() for value in outputs.values()}) == len(outputs))}
