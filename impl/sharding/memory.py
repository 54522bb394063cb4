"""Parameters that live in the host's memory and are moved to the device where they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import NamedSharding

if TYPE_CHECKING:
    from impl.config import ModelConfig

__all__ = ["fetched", "fetching", "hosted", "kept", "offload_problems", "on_device", "returned"]

HOST = "pinned_host"


def fetching(config: ModelConfig) -> Callable[[Any], Any]:
    """What a layer does with its parameters before it uses them: moves them, or nothing."""
    return on_device if config.parameter_memory_host_offload else kept


def kept(tree: Any) -> Any:
    """`tree` itself, wherever its arrays are."""
    return tree


def on_device(tree: Any) -> Any:
    """The arrays of `tree` in the device's memory."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, jax.memory.Space.Device), tree)


def returned(tree: Any, before: Any) -> Any:
    """The arrays of `tree` in the memory in which those of `before` are."""
    return jax.tree.map(lambda leaf, old: jax.device_put(leaf, jax.typeof(old).memory_space), tree, before)


def fetched(differentiate: Callable[..., tuple[Any, Any]], config: ModelConfig) -> Callable[..., tuple[Any, Any]]:
    """`differentiate`, which returns gradients where the parameters are, and more, with them on the device."""

    def run(*args: Any) -> tuple[Any, Any]:
        grads, more = differentiate(*args)
        return fetching(config)(grads), more

    return run


def hosted(sharding: NamedSharding) -> NamedSharding:
    """`sharding` in the host's memory."""
    return NamedSharding(sharding.mesh, sharding.spec, memory_kind=HOST)


def offload_problems(config: ModelConfig) -> list[str]:
    """Why this configuration's parameters cannot be kept on the host, [] if they can or are not meant to."""
    if not config.parameter_memory_host_offload:
        return []
    stops = {
        "experts": config.num_experts > 1,
        "attention through latents or with sinks": config.attention_type == "mla" or config.attention_sink,
        "further prediction": config.mtp_num_layers > 0,
        "8-bit products": bool(config.quantization),
        "a rounded table": config.round_tied_table,
        f"layers stacked at axis {config.param_scan_axis}": config.scan_layers and config.param_scan_axis != 0,
    }
    found = [what for what, stopped in stops.items() if stopped]
    return [f"parameter_memory_host_offload does not go with {', '.join(found)}: set it to False"] if found else []
