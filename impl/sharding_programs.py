"""Programs about devices: where state, batch, activations and cache live on a mesh, and training on it for real.

Settings: "plan", a Plan; "config", "train", "rows", "steps" as in `impl.programs`. The devices are the process's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from impl.config import ModelConfig
from impl.inputs import FIELDS
from impl.requested import config_of, training_of
from impl.serving_programs import SLOTS
from impl.sharding.activations import held, typed_products
from impl.sharding.collectives import KINDS, Collective, read_collectives
from impl.sharding.default import DEFAULT
from impl.sharding.mesh import abstract_mesh
from impl.sharding.placement import Placement, axes_of
from impl.sharding.plan import Plan
from impl.sharding.rules import Rules, read_rules
from impl.sides import side
from impl.training.objective import Batch
from impl.training.settings import TrainSettings

__all__ = ["collectives", "rules_of", "sharded", "sharded_train", "shardings", "single_train"]

Settings = Mapping[str, Any]
Values = Mapping[str, np.ndarray]
Channels = dict[str, dict[str, Any]]


def shardings(name: str, settings: Settings, mesh: Mapping[str, int], rules: str) -> dict[str, Placement]:
    """Neutral name -> Placement of every leaf of the train state of the side `name`. No device is needed.

    mesh: axis -> size. rules: a file in MaxText's format; "" for the default rules. Raises ConfigError.
    """
    found = rules_of(rules)
    return side(name).Trainer.placements(config_of(settings), training_of(settings), abstract_mesh(mesh, found), found)


def rules_of(path: str) -> Rules:
    """The rules of a file, or the default ones for "". Raises ConfigError."""
    return read_rules(Path(path)) if path else DEFAULT


def sharded(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """Where everything lies on the plan's mesh: the state before and after the steps, batch, activations, cache.

    A leaf must lie where abstract shapes alone say that it will, and lie there still after the steps.
    """
    config, training, plan = config_of(settings), training_of(settings), settings["plan"]
    trainer = side(name).ShardedTrainer(config, training, weights, plan, settings.get("key", 7))
    before = trainer.placed()
    for step in range(settings.get("steps", 1)):
        trainer.step(_batch(inputs, step))
    after = trainer.placed()
    expected = _expected(name, config, training, plan)
    cache = side(name).Engine.placements(config, settings.get("slots", SLOTS), trainer.mesh, plan.rules)
    found = {
        **{f"init/{leaf}": each for leaf, each in before.items()},
        **{f"after/{leaf}": each for leaf, each in after.items()},
        **{f"cache/{leaf}": each for leaf, each in cache.items()},
    }
    texts = {where: each.without(trainer.mesh.shape).text for where, each in found.items()}
    rows = axes_of(trainer.batch_sharding, 2)
    texts["batch"] = f"{plan.rules.batch} by {[[a for a in axes if trainer.mesh.shape[a] > 1] for axes in rows]}"
    kept = {f"activations/{place:02}": text for place, text in enumerate(held(trainer.traced(_batch(inputs, 0))))}
    stays = {f"{leaf} stays where it was": np.bool_(after.get(leaf) == each) for leaf, each in before.items()}
    known = {
        f"{leaf} is known beforehand": np.bool_(_alike(before[leaf], each, trainer)) for leaf, each in expected.items()
    }
    return {
        "claims": {**stays, **known, **_said(trainer, plan), "activations are held": np.bool_(bool(kept))},
        "shardings": {where: np.str_(text) for where, text in (texts | kept).items()},
    }


def sharded_train(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """Steps on the plan's mesh: metrics of each, weights and slots after the last."""
    return _trained(name, settings, weights, inputs, settings["plan"])


def single_train(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """`sharded_train` on one of the devices."""
    return _trained(name, settings, weights, inputs, Plan())


def _alike(left: Placement, right: Placement, trainer: Any) -> bool:
    """Whether two placements are one, whatever is said of mesh axes of size 1."""
    return left.without(trainer.mesh.shape) == right.without(trainer.mesh.shape)


def collectives(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """What the devices tell each other in a compiled step: for each kind how often and how many bytes, in loops too.

    Claimed is that nothing is told again in each turn of a loop, and that tiles share one gathered head.
    """
    config, training, plan = config_of(settings), training_of(settings), settings["plan"]
    trainer = side(name).ShardedTrainer(config, training, weights, plan, settings.get("key", 7))
    found = read_collectives(trainer.optimised(_batch(inputs, 0)))
    counts: dict[str, int] = {}
    for kind in KINDS:
        for where, looped in (("in loops", True), ("outside loops", False)):
            those = [each for each in found if (each.kind, each.looped) == (kind, looped)]
            counts |= {f"{kind} {where}": len(those), f"{kind} {where} bytes": sum(each.size for each in those)}
    heads = _of_the_head(config, trainer, found)
    counts |= {"head gathers in loops": sum(each.looped for each in heads), "head gathers": len(heads)}
    claims = {
        "nothing is told again in each turn of a loop": not any(each.repeated for each in found),
        "devices tell each other something": bool(found),
        "the head is gathered once": training.num_vocab_tiling == 1 or [each.looped for each in heads] == [False],
    }
    return {
        "claims": {claim: np.bool_(held) for claim, held in claims.items()},
        "resources": {what: np.asarray(count, np.int64) for what, count in counts.items()},
    }


def _of_the_head(config: ModelConfig, trainer: Any, found: tuple[Collective, ...]) -> list[Collective]:
    """The gathers whose result is what a device holds of the head's weights once the axis summed over is whole."""
    leaf = trainer.placed()[
        "token_embedder/embedding" if config.logits_via_embedding else "decoder/logits_dense/kernel"
    ]
    pairs = zip(leaf.logical, leaf.shape, leaf.shard, strict=True)
    # A layout may turn it round.
    whole = sorted(size if axis == "embed_vocab" else part for axis, size, part in pairs)
    return [each for each in found if each.kind == "all-gather" and [sorted(one) for one in each.shapes] == [whole]]


def _trained(name: str, settings: Settings, weights: Values, inputs: Values, plan: Plan) -> Channels:
    config, training = config_of(settings), training_of(settings)
    trainer = side(name).ShardedTrainer(config, training, weights, plan, settings.get("key", 7))
    losses = {}
    for step in range(settings.get("steps", 1)):
        metrics = trainer.step(_batch(inputs, step))
        losses.update({f"step{step}/{key}": value for key, value in metrics.items()})
    moved = trainer.weights()
    claims = {f"{leaf} was trained": np.bool_(not np.array_equal(weights[leaf], moved[leaf])) for leaf in weights}
    claims |= _said(trainer, plan) | _inside(trainer, plan, _batch(inputs, 0))
    return {"claims": claims, "loss": losses, "updates": {**moved, **trainer.slots()}}


def _said(trainer: Any, plan: Plan) -> dict[str, np.bool_]:
    """Under explicit axes, a claim for every leaf that is split: its type says so."""
    if plan.axis_types == "auto":
        return {}
    placed = {leaf: each.without(trainer.mesh.shape) for leaf, each in trainer.placed().items()}
    return {
        f"the type of {leaf} says how it is sharded": np.bool_(trainer.typed()[leaf])
        for leaf, each in placed.items()
        if any(each.spec)
    }


def _inside(trainer: Any, plan: Plan, batch: Batch) -> dict[str, np.bool_]:
    """Where axes are explicit inside the step too, a claim that its products say how they are sharded."""
    if plan.axis_types != "explicit":
        return {}
    said, products = typed_products(trainer.traced(batch))
    return {"most products inside the step say how they are sharded": np.bool_(said > products // 2)}


def _expected(name: str, config: ModelConfig, training: TrainSettings, plan: Plan) -> dict[str, Placement]:
    """What abstract shapes say of the leaves that the plan does not move further: all, or with ZeRO-1 all but slots."""
    mesh = abstract_mesh(plan.mesh, plan.rules)
    found = side(name).Trainer.placements(config, training, mesh, plan.rules)
    slots = {leaf for leaf in found if leaf[:1].isdigit()} if plan.zero else set()
    return {leaf: each for leaf, each in found.items() if leaf not in slots}


def _batch(inputs: Values, step: int) -> Batch:
    return Batch(*[inputs[f"step{step}/{field}"] for field in FIELDS])
