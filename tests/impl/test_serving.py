"""The engines: parity bit for bit, decode against the forward pass, slots that do not disturb each other, refusals."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from impl import serving_programs
from impl.inputs import prompts
from impl.names import BridgeError
from impl.params import draw
from impl.serving.choice import Sample
from impl.sides import side
from impl.tiny import family

NATIVE = ("linen", "nnx")
SLOTS, PREFILL = 4, 8
CONFIG = family("llama2", scan_layers=True, max_target_length=11, num_decoder_layers=2)
FIRST, SECOND = prompts(count=2, longest=7, seed=13)


@functools.cache
def engine(name):
    return side(name).Engine(CONFIG, draw(CONFIG, 29), SLOTS)


def filled(name, slot=2, prompt=FIRST, padding=3):
    """(prefix, a decode state whose slot 1 holds SECOND, the same with `prompt` in `slot`)."""
    prefix, _ = engine(name).prefill(padded(SECOND, 3), len(SECOND))
    before = engine(name).insert(prefix, engine(name).init_decode_state(), 1)
    prefix, _ = engine(name).prefill(padded(prompt, padding), len(prompt))
    return prefix, before, engine(name).insert(prefix, before, slot)


def padded(prompt, padding):
    return np.pad(prompt, (0, PREFILL - len(prompt)), constant_values=padding)


def rows(name, state, kept):
    """Everything that a decode state holds about the slots `kept`, by name."""
    fields = {field: value for field, value in state._asdict().items() if field != "cache"}
    return {field: np.asarray(value)[kept] for field, value in {**fields, **engine(name).cache(state)}.items()}


def assert_same(left, right):
    """Same names, same bits."""
    assert list(left) == list(right)
    for name, value in left.items():
        a, b = np.asarray(value), np.asarray(right[name])
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name


def inputs_of(settings):
    return draw(settings["config"], 5), serving_programs.requests(settings, 5)


@pytest.mark.parametrize(
    "config",
    [family("gemma2", scan_layers=True, dtype="bfloat16", num_decoder_layers=2), family("qwen3", num_decoder_layers=2)],
    ids=lambda config: config.name,
)
def test_linen_and_nnx_decode_bit_for_bit_alike(config):
    settings = {"config": config, "generate": 2, "prompts": (3, 0, 2), "slots": 5}
    linen, nnx = (serving_programs.decode(name, settings, *inputs_of(settings)) for name in NATIVE)
    for seen in (linen, nnx):
        assert [claim for claim, true in seen["claims"].items() if not true] == []
    assert_same(linen["outputs"], nnx["outputs"])
    assert_same(linen["state"], nnx["state"])
    assert len(linen["state"]) == config.num_decoder_layers * (2 if config.name == "tiny-gemma2" else 1) * 9


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("config", [family("gemma2", scan_layers=True), family("gpt3")], ids=lambda config: config.name)
def test_decoding_from_the_cache_says_what_the_forward_pass_says(name, config):
    settings = {"config": config, "generate": 5, "prompts": (1, 3), "slots": 4}
    decoded, whole = (program(name, settings, *inputs_of(settings)) for program in PROGRAMS)
    assert decoded["outputs"].keys() == whole["outputs"].keys()
    assert len(decoded["outputs"]) == 12
    for step, logits in decoded["outputs"].items():
        # Logits lie below 8, where floats are 4.8e-7 apart; the two sum in another order through all layers. A token
        # at a wrong position or a forgotten key moves them by more than 0.01.
        np.testing.assert_allclose(logits, whole["outputs"][step], rtol=0, atol=8e-6, err_msg=step)


PROGRAMS = (serving_programs.decode_logits, serving_programs.full)


@pytest.mark.parametrize("name", NATIVE)
def test_insert_writes_its_slot_and_no_other(name):
    prefix, before, after = filled(name)
    others = [0, 1, 3]
    assert_same(rows(name, before, others), rows(name, after, others))
    cached = engine(name).cache(prefix)
    for leaf, value in rows(name, after, [2]).items():
        if "prefill" in leaf:
            assert value.tobytes() == cached[leaf].tobytes(), leaf
            assert np.any(value != 0), leaf
    assert int(after.next_pos[2, 0]) == len(FIRST)


@pytest.mark.parametrize("name", NATIVE)
def test_a_slot_used_again_is_emptied_first(name):
    prefix, _, state = filled(name)
    once, first = engine(name).generate(state)
    again, second = engine(name).generate(engine(name).insert(prefix, engine(name).generate(once)[0], 2))
    assert int(second.tokens[2, 0]) == int(first.tokens[2, 0])
    assert_same({"logits": once.logits[2]}, {"logits": again.logits[2]})
    lengths = {leaf: value for leaf, value in rows(name, again, [2, 1]).items() if leaf.endswith("ar_lengths")}
    assert {tuple(value.tolist()) for value in lengths.values()} == {(1, 3)}


@pytest.mark.parametrize("name", NATIVE)
def test_bulk_insert_fills_its_slots_alike(name):
    prefix, before, _ = filled(name)
    after = engine(name).bulk_insert(prefix, before, [3, 0])
    assert_same(rows(name, before, [1, 2]), rows(name, after, [1, 2]))
    assert_same(rows(name, after, [0]), rows(name, after, [3]))
    assert_same(rows(name, after, [0]), rows(name, engine(name).insert(prefix, before, 0), [0]))


@pytest.mark.parametrize("name", NATIVE)
def test_padding_changes_nothing_that_is_used(name):
    (one, _, state), (other, _, changed) = filled(name, padding=3), filled(name, padding=211)
    assert_same({"logits": one.logits, "logp": one.token_logp}, {"logits": other.logits, "logp": other.token_logp})
    state, changed = (engine(name).generate(record)[0] for record in (state, changed))
    assert_same({"logits": state.logits}, {"logits": changed.logits})
    tight, _ = engine(name).prefill(FIRST[None], len(FIRST))
    # The same prompt without padding is another shape: a few roundings of logits below 4.
    np.testing.assert_allclose(tight.logits, one.logits, rtol=0, atol=8e-6)


@pytest.mark.parametrize("name", NATIVE)
def test_a_slot_without_room_ends_and_stays_as_it_is(name):
    _, _, state = filled(name)
    room, active = CONFIG.max_target_length - CONFIG.max_prefill_predict_length, []
    for _ in range(room):
        state, result = engine(name).generate(state)
        active.append(result.active[:, 0].tolist())
    assert active == [[False, True, True, False]] * room
    assert state.next_pos[:, 0].tolist() == [0, len(SECOND) + room, len(FIRST) + room, 0]
    ended, result = engine(name).generate(state)
    assert not np.any(result.active)
    assert_same(rows(name, state, slice(None)), rows(name, ended, slice(None)))


def test_one_key_draws_the_same_tokens_on_both_sides_and_another_key_others():
    def drawn(name, key, **how):
        _, _, state = filled(name)
        tokens = []
        for step in range(3):
            state, result = engine(name).generate(state, Sample(jax.random.fold_in(jax.random.key(key), step), **how))
            tokens.append(np.asarray(result.tokens)[1:3, 0].tolist())
        return tokens

    assert drawn("linen", 31, temperature=1.7) == drawn("nnx", 31, temperature=1.7)
    assert drawn("linen", 31, temperature=1.7) != drawn("linen", 32, temperature=1.7)
    assert drawn("linen", 31, top_k=1) == drawn("linen", 77, top_k=1)


@pytest.mark.parametrize("name", NATIVE)
def test_load_params_takes_effect_and_fits_or_refuses(name):
    own, weights = side(name).Engine(CONFIG, draw(CONFIG, 29), 1), draw(CONFIG, 30)
    before, _ = own.prefill(FIRST, len(FIRST))
    own.load_params(weights)
    after, _ = own.prefill(FIRST, len(FIRST))
    assert np.max(np.abs(np.asarray(before.logits - after.logits))) > 0.1
    with pytest.raises(BridgeError, match="decoder_norm"):
        own.load_params({**weights, "decoder/decoder_norm/scale": weights["decoder/decoder_norm/scale"][1:]})
    del weights["decoder/layers/1/mlp/wo/kernel"]
    with pytest.raises(BridgeError, match="decoder/layers/1/mlp/wo/kernel has no value"):
        own.load_params(weights)


HOSTILE = {
    "too long": (lambda e, p, s: e.prefill([5] * 9, 9), "prompt of 9 tokens does not fit max_prefill_predict_length=8"),
    "no length": (lambda e, p, s: e.prefill(FIRST, 0), "true_length=0 must lie between 1 and the padded length 7"),
    "length beyond": (lambda e, p, s: e.prefill(FIRST, 8), "true_length=8 must lie between 1 and the padded length 7"),
    "empty": (lambda e, p, s: e.prefill(np.zeros((1, 0), np.int32), 1), r"a prompt of shape \(1, 0\)"),
    "two rows": (lambda e, p, s: e.prefill([[5, 6], [7, 8]], 2), r"a prompt of shape \(2, 2\)"),
    "fractions": (lambda e, p, s: e.prefill([5.5, 6.5], 2), "a prompt of dtype float64"),
    "bad padding": (lambda e, p, s: e.prefill([5, 6, -1], 2), "tokens run from -1 to 6, padding included"),
    "bad token": (lambda e, p, s: e.prefill([5, 259], 2), "tokens run from 5 to 259.* vocabulary has 259"),
    "slot beyond": (lambda e, p, s: e.insert(p, s, 4), "slot 4 does not exist: there are 4 slots, 0 to 3"),
    "slot negative": (lambda e, p, s: e.insert(p, s, -1), "slot -1 does not exist"),
    "no slots": (lambda e, p, s: e.bulk_insert(p, s, []), "none were given; there are 4"),
    "slot twice": (lambda e, p, s: e.bulk_insert(p, s, [1, 3, 1]), r"\(1, 3, 1\) names one twice"),
    "one good slot": (lambda e, p, s: e.bulk_insert(p, s, [1, 4]), "slot 4 does not exist"),
    "swapped": (lambda e, p, s: e.insert(s, p, 0), "a decode state of 1 slots given to an engine of 4"),
    "prefix of all": (
        lambda e, p, s: e.insert(s, s, 0),
        r"of the prefix is int32\[2, 4, 3\], expected int32\[2, 1, 3\]",
    ),
    "cold": (lambda e, p, s: e.generate(s, Sample(jax.random.key(2), temperature=0.0)), "temperature=0.0 must be"),
    "top k": (lambda e, p, s: e.generate(s, Sample(jax.random.key(2), top_k=260)), "top_k=260 must lie between 0"),
    "no engine slots": (lambda e, p, s: type(e)(CONFIG, {}, 0), "slots=0: an engine needs at least 1"),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", NATIVE)
def test_refused_in_a_sentence(name, what):
    prefix, _, state = filled(name)
    attempt, message = HOSTILE[what]
    with pytest.raises(ValueError, match=message):
        attempt(engine(name), prefix, state)


@pytest.mark.parametrize("name", NATIVE)
def test_a_window_of_nothing_cannot_be_served(name):
    with pytest.raises(ValueError, match="sliding_window_size=0 makes local attention uniform"):
        side(name).Engine(family("gemma2", sliding_window_size=0), {}, 2)


@pytest.mark.parametrize("name", ["linen_nnx", "linen_nnx_linen", "nnx_linen"])
def test_bridged_sides_refuse(name):
    settings = {"config": CONFIG}
    with pytest.raises(ValueError, match=f"side {name} has no Engine"):
        serving_programs.decode(name, settings, {}, {})
