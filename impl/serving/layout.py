"""Where each cache leaf lives on each side: neutral name <-> path, in forward order."""

from __future__ import annotations

from impl.config import ModelConfig
from impl.experts import attention_name
from impl.names import Address
from impl.params import layer_parameters
from impl.serving import kv
from impl.stacks import places

__all__ = ["cache_addresses"]

CACHES = {"global": "KVCache_0", "mla": "MlaKVCache_0"}
"""attention_type -> what both sides call the cache of an attention module."""


def cache_addresses(config: ModelConfig, unscanned: str) -> dict[str, Address]:
    """Neutral name ("decoder/layers/0/self_attention/KVCache_0/cached_ar_key") -> Address, in forward order.

    `unscanned` as in `impl.names.addresses`. The layers of a scanned cache are stacked at axis 0, wherever the
    parameters have theirs.
    """
    table, cache = {}, CACHES[config.attention_type]
    for place in places(config):
        rows = layer_parameters(config, place.kind)
        attending = [row.name.split("/")[0] for row in rows if row.name.startswith(attention_name(config))]
        for module in dict.fromkeys(attending):
            for leaf in kv.declare(kv.sizes(config, 1)):
                rest, stacked = (module, cache, leaf), place.group.form == "scanned"
                where = (0, place.index) if stacked else (-1, 0)
                table["/".join((place.name, *rest))] = Address((*place.path(unscanned), *rest), *where)
    return table
