"""One formula of the plain model edited at a time: where it stands, the edit, and the case in which it must be seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from impl.reference.plain import attention, blocks, decoder, experts, latent, losses, mlp, rotary, stacks

ZONES, YARN = "llama3.1, all zones", "yarn, neighbours, scaled"
CAPPED, FUSED = "stretched, capped, three activations", "qwen3, fused, biased, untied"
BARE, GATED = "gemma2, bare, window 0", "gpt3, apart, gated"
LEARNED = "llama2, learned positions, rounded table"


class Fault(NamedTuple):
    """In `room`, a module or a table, `name` becomes what `edit` makes of it. `case` is one of `cases.CASES`."""

    case: str
    room: Any
    name: str
    edit: Callable[[Any], Any]


def instead(made):
    """An edit: this, whatever was there."""
    return lambda before: made


def called(change):
    """An edit of a function: `change` gets it and its arguments."""
    return lambda before: lambda *args: change(before, *args)


def neighbours(config):
    return [((2 * i, 2 * i + 1), (2 * i, 2 * i + 1)) for i in range(config.head_dim // 2)]


def before_it(segments, query, window):
    """As `visible`, the query's own place left out."""
    return [key for key in range(query) if segments[key] == segments[query]] or [query]


def swapped(before, *args):
    query, key, value = before(*args)
    return query, value, key


def turned(change):
    """An edit of `turned` that changes the position."""
    return called(lambda before, vector, at, config: before(vector, change(at), config))


def windowed(change):
    """An edit of `visible` that changes the window of a layer that has one."""
    return called(lambda before, s, q, window: before(s, q, change(window) if window > 0 else window))


def all_slowed(config, index):
    return rotary._default(config, index) / 8


def exact_gelu(value):
    return 0.5 * value * (1.0 + math.erf(value / math.sqrt(2.0)))


def uncentred(x, scale, bias, epsilon):
    return blocks.rms_norm(x, 1.0 + scale, epsilon) + bias


ROTARY = {
    "halves read as neighbours": Fault("llama2", rotary, "pairs", instead(neighbours)),
    "turned the other way": Fault("llama2", attention, "turned", turned(lambda at: -at)),
    "not turned": Fault("llama2", attention, "turned", turned(lambda at: 0 * at)),
    "turned a ten thousandth too far": Fault("llama2", attention, "turned", turned(lambda at: at * 1.0001)),
    "a position left out": Fault("llama3.1", attention, "turned", turned(lambda at: at + (at > 20))),
    "llama3.1 not slowed": Fault(ZONES, rotary._KINDS, "llama3.1", instead(rotary._default)),
    "llama3.1 slowed everywhere": Fault(ZONES, rotary._KINDS, "llama3.1", instead(all_slowed)),
    "yarn not slowed": Fault(YARN, rotary._KINDS, "yarn", instead(rotary._default)),
    "yarn's heads not lengthened": Fault(YARN, rotary, "magnitude", instead(lambda config: 1.0)),
}

NORMS = {
    "epsilon left out": Fault("llama2", blocks, "rms_norm", called(lambda b, x, scale, e: b(x, scale, 0.0))),
    "gemma2's blocks follow the configuration": Fault("gemma2", blocks, "GEMMA_EPSILON", instead(1e-5)),
    "mean not taken off": Fault("gpt3", blocks, "layer_norm", instead(uncentred)),
    "scale without its one": Fault(GATED, blocks, "layer_norm", called(lambda b, x, s, *rest: b(x, s - 1.0, *rest))),
    "heads not normed": Fault("qwen3", attention, "rms_norm", instead(lambda vector, *rest: vector)),
    "last norm left out": Fault("llama2", decoder, "normed", instead(lambda weights, x, epsilon: x)),
}

ATTENTION = {
    "window one wider": Fault("gemma2", attention, "visible", windowed(lambda window: window + 1)),
    "window one narrower": Fault("gemma2", attention, "visible", windowed(lambda window: window - 1)),
    "no window": Fault("gemma2", attention, "visible", windowed(lambda window: attention.EVERYTHING)),
    "a place does not see itself": Fault("llama2", attention, "visible", instead(before_it)),
    "segments run into one another": Fault(
        "llama2", attention, "visible", called(lambda b, segments, *rest: b(np.minimum(segments, 1), *rest))
    ),
    "padding sees only itself": Fault(
        "llama2", attention, "visible", called(lambda b, segments, q, w: b(segments, q, w) if segments[q] else [q])
    ),
    "who sees nothing gets nothing": Fault(
        BARE, attention, "mixed", called(lambda b, config, q, *rest: b(config, q, *rest) if rest[-1] else 0.0 * q)
    ),
    "key heads dealt out in turn": Fault(
        "llama2", attention, "key_head", instead(lambda config, head: head % config.num_kv_heads)
    ),
    "queries not scaled": Fault("qwen3", attention, "query_factor", instead(lambda config: 1.0)),
    "queries scaled twice": Fault("mistral", attention, "query_factor", instead(lambda config: config.head_dim**-0.5)),
    "keys and values change places": Fault(FUSED, attention, "project", called(swapped)),
    "scores not capped": Fault(CAPPED, attention, "capped", instead(lambda value, cap: value)),
}

OTHERS = {
    "exact gelu": Fault("gpt3", mlp.ACTIVATIONS, "gelu", instead(exact_gelu)),
    "gate without its sigmoid": Fault("llama2", mlp.ACTIVATIONS, "silu", instead(float)),
    "learned positions left out": Fault(
        LEARNED,
        decoder,
        "embedded",
        instead(lambda config, weights, tokens, at: weights["token_embedder/embedding"][tokens]),
    ),
    "embedding scaled": Fault(
        "gemma2", decoder, "embedded", called(lambda b, config, *rest: math.sqrt(config.emb_dim) * b(config, *rest))
    ),
    "logits not capped": Fault(CAPPED, decoder, "capped", instead(lambda value, cap: value)),
}


def without_bias(before, config, weights, x):
    return before(config, {name: value for name, value in weights.items() if name != "gate/bias"}, x)


def weighed(change):
    """An edit of `choice` that changes what each of the chosen counts."""
    return called(lambda before, *args: before(*args)._replace(weights=change(before(*args).weights)))


def whole(before, config, turns, *rest):
    return before(config, turns.overriding({"rope_linear_scaling_factor": 1.0, "rope_type": "default"}), *rest)


MIXTURES = {
    "a bias that chooses nobody": Fault("deepseek", experts, "choice", called(without_bias)),
    "a bias left out of the weights": Fault("gpt_oss", experts, "choice", called(without_bias)),
    "chosen alike": Fault("mixtral", experts, "choice", weighed(lambda w: dict.fromkeys(w, 1.0 / len(w)))),
    "not scaled": Fault("deepseek", experts, "choice", weighed(lambda w: {n: v / 2.5 for n, v in w.items()})),
    "no bound on gate and value": Fault(
        "gpt_oss",
        experts,
        "opened",
        called(lambda b, config, parts: b(config.overriding({"mlp_activations_limit": 1e9}), parts)),
    ),
    "a gate of another slope": Fault("gpt_oss", experts, "SLOPE", instead(1.7)),
    "layers in another order": Fault("gemma3", decoder, "layers", called(lambda b, config: b(config)[::-1])),
    "local layers stretched too": Fault("gemma3", blocks, "turning", instead(lambda config, layer: config)),
    "no sink": Fault("gpt_oss", attention, "mixed", called(lambda b, *args: b(*args[:4], -math.inf, args[5]))),
    "attention as sharp as if not stretched": Fault(
        "deepseek_mla", latent, "sharpness", called(lambda b, config: b(config.overriding({"mscale": 0.0})))
    ),
    "turned at another pace": Fault("deepseek_mla_lora", blocks, "latent_attention", called(whole)),
    "latents not normed": Fault("deepseek_mla", latent, "rms_norm", instead(lambda vector, *rest: vector)),
    "every second layer first": Fault("gpt_oss", stacks.CYCLES, "gpt_oss", instead(("global", "local"))),
}

FAULTS = {**ROTARY, **NORMS, **ATTENTION, **OTHERS, **MIXTURES}


def negative(before, scores, target, multiplier):
    """The z-loss taken off instead of added."""
    loss, z = before(scores, target, multiplier)
    return loss - 2.0 * z, z


def unsquared(before, scores, target, multiplier):
    loss, z = before(scores, target, multiplier)
    return loss, z**0.5


LOSSES = {
    "z-loss of the other sign": (Fault("gpt3", losses, "token_loss", called(negative)), "xent_sum"),
    "z-loss not squared": (Fault("gpt3", losses, "token_loss", called(unsquared)), "z_sum"),
    "target one further": (
        Fault("gpt3", losses, "token_loss", called(lambda b, scores, at, z: b(scores, at + 1, z))),
        "xent_sum",
    ),
    "a hundredth of a token too many": (Fault("gpt3", losses, "TINY", instead(1e-2)), "loss"),
}
"""Faults of the losses, and the term that shows them."""
