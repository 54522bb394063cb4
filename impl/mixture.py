"""The fields of a model that shape layers of several kinds and mixtures of experts, under MaxText's names."""

from __future__ import annotations

from dataclasses import dataclass

from impl.later import later

__all__ = ["Mixture"]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What `impl.config.ModelConfig` has beside a plain decoder's fields. N experts, M inside each of them.

    layer_cycle: what the layers of one cycle attend to, "local" or "global"; () leaves it to the block.
    first_num_dense_layers: layers of a deepseek decoder that come before those with experts.
    local_rope_max_timescale: of layers that attend locally; 0 gives them the others'.
    mlp_activations_limit: clamps what enters a gpt-oss MLP's activation; 0 clamps nothing.
    """

    layer_cycle: tuple[str, ...] = later(())
    local_rope_max_timescale: int = later(0)
