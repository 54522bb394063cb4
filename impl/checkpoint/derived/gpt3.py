"""GPT-3 as Paxml names it: a table of its arrays, their axes, and the leaves of a decoder that they become.

Letters: L layers, V vocab, P positions, E embed, F mlp, H heads, D head, 3 query key value. A Paxml array of a layer
carries L in front; a turn makes one layer of it, and L goes to the scan axis afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FUSED", "MOMENTS", "SPLIT", "TURNS", "Row", "moment_key", "turned", "weight_key"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One leaf of the decoder: the array it is made of, that array's axes, and how (a name in TURNS).

    Slashes part the target, dots the source. axes: one letter an axis, as Paxml stores it; "L" first marks a layer's.
    """

    target: str
    source: str
    axes: str
    turn: str

    @property
    def layered(self) -> bool:
        """Whether the array holds every layer."""
        return self.axes.startswith("L")


TURNS: Mapping[str, tuple[int, Callable[[int], tuple[int, ...]]]] = {
    "same": (-1, lambda rank: tuple(range(rank))),
    "transposed": (-1, lambda rank: tuple(reversed(range(rank)))),
    "first": (0, lambda rank: tuple(range(rank))),
    "second": (1, lambda rank: tuple(range(rank))),
    "third": (2, lambda rank: tuple(range(rank))),
    "one back": (-1, lambda rank: (1, 0, *range(2, rank))),
    "to the end": (-1, lambda rank: (*range(1, rank), 0)),
}
"""How an array, or one layer of it, is turned: what is taken of its first axis (-1 all), and the order of the axes that
are left, by their number. "one back": 3EHD to E3HD. "to the end": EHD to HDE."""

_SUB = "lm.transformer.repeat.sub.x_layers_0"
_LAYER = "decoder/layers"


def _row(target: str, source: str, axes: str, turn: str) -> Row:
    return Row(target=target, source=source, axes=axes, turn=turn)


_SHARED = (
    _row("token_embedder/embedding", "lm.softmax.logits_ffn.linear.w", "EV", "transposed"),
    _row("decoder/position_embedder/embedding", "lm.position_emb.emb_var", "PE", "same"),
    _row(f"{_LAYER}/pre_self_attention_norm/scale", f"{_SUB}.layer_norm.scale", "LE", "same"),
    _row(f"{_LAYER}/pre_self_attention_norm/bias", f"{_SUB}.layer_norm.bias", "LE", "same"),
    _row(f"{_LAYER}/self_attention/out/kernel", f"{_SUB}.self_attention.post.w", "LEHD", "to the end"),
    _row(f"{_LAYER}/self_attention/out/bias", f"{_SUB}.self_attention.post.b", "LE", "same"),
    _row(f"{_LAYER}/mlp/mlp_layer_norm/scale", f"{_SUB}.ff_layer.layer_norm.scale", "LE", "same"),
    _row(f"{_LAYER}/mlp/mlp_layer_norm/bias", f"{_SUB}.ff_layer.layer_norm.bias", "LE", "same"),
    _row(f"{_LAYER}/mlp/wi/kernel", f"{_SUB}.ff_layer.ffn_layer1.linear.w", "LEF", "same"),
    _row(f"{_LAYER}/mlp/wi/bias", f"{_SUB}.ff_layer.ffn_layer1.bias.b", "LF", "same"),
    _row(f"{_LAYER}/mlp/wo/kernel", f"{_SUB}.ff_layer.ffn_layer2.linear.w", "LFE", "same"),
    _row(f"{_LAYER}/mlp/wo/bias", f"{_SUB}.ff_layer.ffn_layer2.bias.b", "LE", "same"),
    _row("decoder/decoder_norm/scale", "lm.final_ln.scale", "E", "transposed"),
    _row("decoder/decoder_norm/bias", "lm.final_ln.bias", "E", "same"),
)
_QKV = f"{_SUB}.self_attention.combined_qkv"

FUSED = (
    *_SHARED,
    _row(f"{_LAYER}/self_attention/qkv_proj/kernel", f"{_QKV}.w", "L3EHD", "one back"),
    _row(f"{_LAYER}/self_attention/qkv_proj/bias", f"{_QKV}.b", "L3HD", "same"),
)
"""With queries, keys and values in one projection."""

SPLIT = (
    *_SHARED,
    *(
        _row(f"{_LAYER}/self_attention/{name}/{leaf}", f"{_QKV}.{key}", axes, turn)
        for name, turn in (("query", "first"), ("key", "second"), ("value", "third"))
        for leaf, key, axes in (("kernel", "w", "L3EHD"), ("bias", "b", "L3HD"))
    ),
)
"""With a projection each."""

MOMENTS = {"mu": "m", "nu": "v"}
"""Slots of adam_pax, and what Paxml calls them."""


def weight_key(row: Row) -> str:
    """Name of the array of a weight."""
    return f"mdl_vars.params.{row.source}"


def moment_key(row: Row, slot: str, layers: int) -> str:
    """Name of the array of a moment; Paxml keeps those of L stacked layers below a prefix that says L."""
    prefix = f"p#{layers}#i-1_2" if row.layered else "no_prefix_2"
    return f"opt_states_0.{prefix}.{MOMENTS[slot]}.params.{row.source}"


def turned(array: Any, row: Row, scan_axis: int) -> Any:
    """What the decoder has for `array`, a view of it; the layers of a stack at min(scan_axis, rank of one layer).

    An array in memory or a TensorStore, which is turned without being read.
    """
    taken, order = TURNS[row.turn]
    before = int(row.layered)
    if taken >= 0:
        array = array[(slice(None),) * before + (taken,)]
    axes = [before + axis for axis in order(array.ndim - before)]
    if row.layered:
        axes.insert(min(scan_axis, len(axes)), 0)
    return array.transpose(axes)
