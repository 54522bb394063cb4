"""Which layers a decoder is made of: their names, how far each sees, and which of them hold experts."""

from __future__ import annotations

from typing import Any, NamedTuple

from impl.config import ModelConfig

__all__ = ["CYCLES", "Layer", "layers", "turning"]

CYCLES: dict[str, tuple[str, ...]] = {
    "gemma3": ("local", "local", "local", "local", "local", "global"),
    "gpt_oss": ("local", "global"),
    "olmo3": ("local", "local", "local", "global"),
}
"""Decoder block -> what its layers see, over and over, unless the configuration has a cycle of its own."""

SPARSE = ("deepseek", "gpt_oss", "mixtral", "qwen3_moe")
"""Decoder blocks whose layers hold experts; deepseek's first ones do not."""


class Layer(NamedTuple):
    """name: under "decoder/". local: whether it sees a window only. sparse: whether it holds experts."""

    name: str
    local: bool
    sparse: bool


def layers(config: ModelConfig) -> list[Layer]:
    """Every layer in the order in which a token passes them."""
    count, dense = config.num_decoder_layers, config.first_num_dense_layers
    if config.decoder_block == "deepseek":
        first = [Layer(f"dense_layers/{index}", False, False) for index in range(dense)]
        return first + [Layer(f"moe_layers/{index}", False, True) for index in range(count - dense)]
    cycle = config.layer_cycle or CYCLES.get(config.decoder_block, ("global",))
    sparse = config.decoder_block in SPARSE
    return [Layer(f"layers/{index}", cycle[index % len(cycle)] == "local", sparse) for index in range(count)]


def turning(config: ModelConfig, layer: Layer) -> ModelConfig:
    """The configuration by which the heads of a layer turn.

    A local layer may have a longest wavelength of its own; gemma3 and olmo3 stretch their global layers alone, the
    latter unless stretched_local is set. Where keys and values are made of latents, a head's turning part counts as its
    width.
    """
    changes: dict[str, Any] = {}
    if layer.local and config.local_rope_max_timescale:
        changes["rope_max_timescale"] = config.local_rope_max_timescale
    if layer.local and config.decoder_block == "gemma3":
        changes["rope_linear_scaling_factor"] = 1.0
    if layer.local and config.decoder_block == "olmo3" and not config.stretched_local:
        changes |= {"rope_linear_scaling_factor": 1.0, "rope_type": "default"}
    if config.attention_type == "mla":
        changes["head_dim"] = config.qk_rope_head_dim
    return config.overriding(changes)
