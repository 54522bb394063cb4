"""Layers of generic values in every layout, and the state that may lie beside them.

Letters: E embed 6, F mlp 10, V vocab 13, H heads 2, D head 3, L layers. A layer's leaves are drawn one by one, so that
each layout of one seed holds the same layers.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from impl.checkpoint import KeyArray

LAYER = {
    "mlp/wi_0/kernel": ((6, 10), "float32"),
    "mlp/wo/kernel": ((10, 6), "bfloat16"),
    "pre_norm/scale": ((6,), "float32"),
    "self_attention/query/kernel": ((6, 2, 3), "float8_e4m3fn"),
    "self_attention/sinks": ((2,), "bfloat16"),
}
MARKS = {"scanned_blocks": ("layer_scalar", (1,)), "next": ("input_layernorm/scale", (6,))}
OUTSIDE = {"token_embedder/embedding": (13, 6), "decoder/decoder_norm/scale": (6,), "mtp_block/mtp_layer_0/w": (6, 3)}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """groups: name -> layers. form: "stacked", "apart" or "blocks" (of `cycle`, called `word`_<j>, below `above`)."""

    groups: dict
    form: str
    axis: int = 1
    cycle: int = 1
    above: str = "layers"
    word: str = "layers"


LAYOUTS = {
    "axis0": Layout(groups={"layers": 3}, form="stacked", axis=0),
    "axis1": Layout(groups={"layers": 3}, form="stacked"),
    "axis2": Layout(groups={"layers": 3}, form="stacked", axis=2),
    "apart": Layout(groups={"layers": 3}, form="apart"),
    "two": Layout(groups={"dense_layers": 2, "moe_layers": 11}, form="stacked"),
    "two_apart": Layout(groups={"dense_layers": 2, "moe_layers": 11}, form="apart"),
    "outside": Layout(groups={"layers": 3, "layers_outside_pipeline": 2}, form="stacked"),
    "blocks": Layout(groups={"layers": 7}, form="blocks", cycle=2),
    "blocks_apart": Layout(groups={"layers": 7}, form="apart"),
    "scanned_blocks": Layout(groups={"layers": 7}, form="blocks", cycle=3, above="scanned_blocks"),
    "scanned_blocks_apart": Layout(groups={"layers": 7}, form="apart"),
    "next": Layout(groups={"layers": 8}, form="blocks", cycle=4, word="layer"),
    "next_apart": Layout(groups={"layers": 8}, form="apart"),
}


@functools.cache
def values(name, shape, dtype="float32"):
    """Values that depend on the name alone, no two of them alike in float32."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    return np.asarray(rng.normal(0.2, 1.3, shape)).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


def stacked(leaves, axis):
    if isinstance(leaves[0], KeyArray):
        return KeyArray(np.stack([leaf.words for leaf in leaves], axis), leaves[0].impl)
    return np.stack(leaves, min(axis, leaves[0].ndim))


def place(layout, group, layers, axis):
    """{path: leaf} of the layers of one group, as Linen names them."""
    rests = layers[0]
    if layout.form == "apart":
        return {f"decoder/{group}_{i}/{rest}": leaf for i, layer in enumerate(layers) for rest, leaf in layer.items()}
    if layout.form == "stacked":
        return {f"decoder/{group}/{rest}": stacked([layer[rest] for layer in layers], axis) for rest in rests}
    whole, found = len(layers) // layout.cycle, {}
    for j, rest in itertools.product(range(layout.cycle), rests):
        inner = [layers[block * layout.cycle + j][rest] for block in range(whole)]
        found[f"decoder/{layout.above}/{layout.word}_{j}/{rest}"] = stacked(inner, axis)
    for j, layer in enumerate(layers[whole * layout.cycle :]):
        found |= {f"decoder/layers_remainder/{layout.word}_{j}/{rest}": leaf for rest, leaf in layer.items()}
    return found


@functools.cache
def _model(name, salt, table, axis):
    return _laid(name, salt, dict(table), axis)


def model(name, salt, table, axis):
    """{path: leaf} with `table`, {rest: (shape, dtype) or make(name)}, in every layer; stacked at `axis`."""
    return dict(_model(name, salt, tuple(table.items()), axis))


def _laid(name, salt, table, axis):
    layout, found = LAYOUTS[name], {}
    for group, depth in layout.groups.items():
        layers = [
            {
                rest: row(f"{salt}{group}{i}{rest}") if callable(row) else values(f"{salt}{group}{i}{rest}", *row)
                for rest, row in table.items()
            }
            for i in range(depth)
        ]
        found |= place(layout, group, layers, axis)
    return found


def weights(name, state, salt=""):
    table = dict(LAYER)
    for mark, (rest, shape) in MARKS.items():
        if name.startswith(mark):
            table[rest] = (shape, "float32")
    if state == "lora":
        table |= {"self_attention/query/lora_a.kernel": ((6, 4), "float32")}
        table |= {"self_attention/query/lora_b.kernel": ((4, 2, 3), "float32")}
    if state == "aqt":
        del table["mlp/wi_0/kernel"]
    found = model(name, salt, table, LAYOUTS[name].axis)
    return found | {path: values(salt + path, shape) for path, shape in OUTSIDE.items()}


def typed(name):
    """A typed key."""
    return KeyArray(values(name, (4,), "uint32"), "rbg")


def beside(name, state):
    """Linen's collection, "aux" for streams and tables that it has none for, {path: leaf}; state is stacked at 0."""
    if state == "fp8":
        rows = {f"mlp/wo/dot_general/{t}_amax_history": ((4,), "float32") for t in ("input", "output_grad")}
        rows |= {f"mlp/wo/dot_general/{t}_scale": ((1,), "float32") for t in ("input", "output_grad")}
        return "_overwrite_with_gradient", model(name, "fp8", rows, 0)
    if state == "batch_stats":
        return "batch_stats", model(name, "bn", {f"norm/{s}": ((6,), "float32") for s in ("mean", "var")}, 0)
    if state == "aqt":
        frozen = "mlp/wi_0/AqtDotGeneral_0/qrhs/frozen"
        rows = {f"{frozen}/qvalue": ((6, 10), "int8")}
        rows |= {f"{frozen}/scale/{i}": ((1, 10), "bfloat16") for i in range(2)}
        return "aqt", model(name, "aqt", rows, 0)
    if state == "rngs":
        rows = {"dropout/rngs/dropout/count": ((), "uint32"), "dropout/rngs/dropout/key": typed}
        return "aux", model(name, "rng", rows, 0) | {"decoder/rngs/params/key": values("raw", (2,), "uint32")}
    if state == "counters":
        return "aux", model(name, "table", {"moe/tid2eid": ((9,), "int32")}, 0)
    return "", {}
