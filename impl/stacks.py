"""Which layers a decoder is made of, and how a scanned model groups them: the one table that everything follows.

Parameters, names, both sides' decoders, caches, captured outputs and proofs read it. Layer i of the stack "layers" is
"decoder/layers/i" in neutral names, however it is stored; a model with two stacks counts from 0 in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from impl.config import ModelConfig
from impl.prediction import BLOCK, layer_name, part_name

__all__ = [
    "CYCLES",
    "Group",
    "Place",
    "Predictor",
    "every_layer",
    "groups",
    "inner_name",
    "places",
    "predictors",
    "stacks",
]

Form = Literal["listed", "block", "scanned"]

CYCLES: dict[str, tuple[str, ...]] = {
    "gemma3": (*("local",) * 5, "global"),
    "gpt_oss": ("local", "global"),
    "olmo3": (*("local",) * 3, "global"),
}
"""Decoder block -> what its layers attend to, over and over, where `layer_cycle` does not say."""

PLAIN = "global"
"""The kind of a layer where all are alike."""

REMAINDER = "_remainder"
"""What the name of a group ends in that holds the layers which fill no whole cycle."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Consecutive layers of one stack that a side keeps together.

    form: "listed", each layer by itself directly below the decoder; "block", written out inside one module; "scanned",
        `count` blocks stacked, each of them one layer, or a module of `kinds` layers where these are several.
    name: the module's, and the logical axis of a scanned stack. first: number, in the stack, of its first layer.
    kinds: of the layers that are written out, in order.
    """

    stack: str
    name: str
    form: Form
    first: int
    kinds: tuple[str, ...]
    count: int = 1

    @property
    def layers(self) -> range:
        """The numbers of the group's layers in its stack."""
        return range(self.first, self.first + self.count * len(self.kinds))


@dataclass(frozen=True, kw_only=True)
class Place:
    """One layer: number i of `group.stack`. inner: its number inside a block; index: which block; kind as in Group."""

    group: Group
    layer: int
    kind: str
    inner: int
    index: int

    @property
    def name(self) -> str:
        """The layer's neutral name."""
        return f"decoder/{self.group.stack}/{self.layer}"

    def path(self, unscanned: str) -> tuple[str, ...]:
        """Keys from the root of a model down to the layer. `unscanned` as in `impl.names.addresses`."""
        if self.group.form == "listed":
            spelled = unscanned.replace("layers", self.group.stack, 1).format(i=self.layer)
            return ("decoder", *spelled.split("/"))
        nested = self.group.form == "block" or len(self.group.kinds) > 1
        return ("decoder", self.group.name, *((inner_name(self.inner),) if nested else ()))


@dataclass(frozen=True, kw_only=True)
class Predictor(Place):
    """A layer beside the decoder that predicts further; `layer` counts from 1. It is never scanned."""

    @property
    def name(self) -> str:
        return "/".join(self.path(""))

    def path(self, unscanned: str) -> tuple[str, ...]:
        return BLOCK, layer_name(self.layer), part_name(self.layer, "transformer_layer")


def inner_name(inner: int) -> str:
    """What a layer is called inside a block of several."""
    return f"layers_{inner}"


def stacks(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Stack -> the kind of each of its layers, in the order in which a token passes them."""
    count, cycle = config.num_decoder_layers, _cycle(config)
    if config.decoder_block == "deepseek":
        dense = config.first_num_dense_layers
        found = {"dense_layers": ("dense",) * dense, "moe_layers": ("moe",) * (count - dense)}
        return {stack: kinds for stack, kinds in found.items() if kinds}
    return {"layers": tuple(cycle[layer % len(cycle)] for layer in range(count))}


def groups(config: ModelConfig) -> tuple[Group, ...]:
    """The decoder's groups in forward order."""
    return tuple(group for stack, kinds in stacks(config).items() for group in _grouped(config, stack, kinds))


def _grouped(config: ModelConfig, stack: str, kinds: tuple[str, ...]) -> Iterator[Group]:
    """One stack: as it is, or scanned by whole cycles with what is left over after them."""
    if not config.scan_layers:
        yield Group(stack=stack, name=stack, form="listed", first=0, kinds=kinds)
        return
    size = len(_cycle(config))
    count, whole = len(kinds) // size, len(kinds) // size * size
    if count:
        yield Group(stack=stack, name=stack, form="scanned", first=0, kinds=kinds[:size], count=count)
    if whole < len(kinds):
        yield Group(stack=stack, name=stack + REMAINDER, form="block", first=whole, kinds=kinds[whole:])


def _cycle(config: ModelConfig) -> tuple[str, ...]:
    return config.layer_cycle or CYCLES.get(config.decoder_block, (PLAIN,))


def places(config: ModelConfig) -> tuple[Place, ...]:
    """Every layer in forward order."""
    return tuple(
        Place(group=group, layer=layer, kind=group.kinds[at % size], inner=at % size, index=at // size)
        for group in groups(config)
        for size in (len(group.kinds),)
        for at, layer in enumerate(group.layers)
    )


def predictors(config: ModelConfig) -> tuple[Predictor, ...]:
    """The layers that predict further, each of the kind of the decoder's last one."""
    if not config.mtp_num_layers:
        return ()
    kind, numbers = places(config)[-1].kind, range(1, config.mtp_num_layers + 1)
    group = Group(stack=BLOCK, name=BLOCK, form="listed", first=1, kinds=(kind,) * len(numbers))
    return tuple(Predictor(group=group, layer=number, kind=kind, inner=0, index=0) for number in numbers)


def every_layer(config: ModelConfig) -> tuple[Place, ...]:
    """The decoder's layers in forward order, and after them those that predict further."""
    return (*places(config), *predictors(config))
