"""Where each cache leaf lives on each side: neutral name <-> path, in forward order."""

from __future__ import annotations

from impl.config import ModelConfig
from impl.names import Address
from impl.params import layer_parameters
from impl.serving import kv

__all__ = ["cache_addresses"]

CACHE = "KVCache_0"
"""What both sides call the cache of an attention module."""


def cache_addresses(config: ModelConfig, unscanned: str) -> dict[str, Address]:
    """Neutral name ("decoder/layers/0/self_attention/KVCache_0/cached_ar_key") -> Address, in forward order.

    `unscanned` as in `impl.names.addresses`. The layers of a scanned cache are stacked at axis 0, wherever the
    parameters have theirs.
    """
    modules = dict.fromkeys(
        row.name.split("/")[0] for row in layer_parameters(config) if row.name.startswith("self_attention")
    )
    table = {}
    for layer in range(config.num_decoder_layers):
        for module in modules:
            for leaf in kv.declare(kv.sizes(config, 1)):
                rest = (module, CACHE, leaf)
                name = "/".join(("decoder", "layers", str(layer), *rest))
                if config.scan_layers:
                    table[name] = Address(("decoder", "layers", *rest), 0, layer)
                else:
                    table[name] = Address(("decoder", *unscanned.format(i=layer).split("/"), *rest))
    return table
