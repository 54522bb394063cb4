"""Clean variations: every family under other seeds, sizes, dtypes, layouts, remat policies and optimizers."""

from collections.abc import Iterator, Mapping
from typing import Any

from harness.faults.record import Variation

__all__ = ["GRID"]

FAMILIES = ("llama2", "llama3.1", "mistral", "qwen3", "gemma2", "gpt3", "fused")
SCANNED = tuple(f"{family}-scan1" for family in FAMILIES)

SIZES: Mapping[str, Mapping[str, Any]] = {
    "wider": {"config.emb_dim": 28},
    "mlp": {"config.mlp_dim": 36},
    "vocabulary": {"config.vocab_size": 287},
    "shallow": {"config.num_decoder_layers": 2},
    "longer": {"config.max_target_length": 30},
    "heads": {"config.num_query_heads": 6, "config.num_kv_heads": 3},
    "head_dim": {"config.head_dim": 10},
    "rows": {"rows": 5},
}
POLICIES = ("full", "minimal", "save_dot_except_mlp")
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "adam_pax": {"train.opt_type": "adam_pax"},
    "unclipped": {"train.gradient_clipping_threshold": 0.0},
    "constant": {"train.schedule": "constant", "train.learning_rate": 0.01},
    "z_loss": {"train.z_loss_multiplier": 0.02},
}


def _grid() -> Iterator[Variation]:
    for cell in (*FAMILIES, *SCANNED):
        for seed in (4, 5, 6, 7):
            yield _varied(f"seed_{seed}", "other weights and batches", cell, {}, seed)
        yield _varied("bfloat16", "bfloat16 in computation", cell, {"config.dtype": "bfloat16"})
    for family in FAMILIES:
        for name, settings in SIZES.items():
            if (family, name) != ("gpt3", "heads"):  # it has as many key heads as query heads
                yield _varied(name, "another size", family, settings)
        for name, settings in OPTIMIZERS.items():
            yield _varied(name, "trained otherwise", f"{family}-scan1", settings)
        for policy in POLICIES:
            yield _varied(policy, "another remat policy", f"{family}-scan1", {"config.remat_policy": policy})
        yield _varied("axis_0", "stacked at axis 0", f"{family}-scan1", {"config.param_scan_axis": 0})


def _varied(name: str, title: str, cell: str, settings: Mapping[str, Any], seed: int = 0) -> Variation:
    return Variation(
        id=f"grid_{cell}_{name}", title=title, scenario="train_step", cell=cell, settings=settings, seed=seed
    )


GRID: tuple[Variation, ...] = tuple(_grid())
