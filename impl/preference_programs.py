"""Programs about learning from pairs: what the loss is, that the reference stays what it was, and resuming.

(side, settings, weights, inputs) -> channel -> name -> value. Settings as in `impl.programs`, and "preference", a
PreferenceSettings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from impl.checkpoint import load_tree, save_tree
from impl.config import ConfigError, ModelConfig
from impl.experts import BALANCE, only_chooses
from impl.params import draw
from impl.preference_inputs import PREFERENCE_FIELDS, pairs
from impl.requested import ROWS, config_of, preference_of, training_of
from impl.sides import side
from impl.training.loop import Checkpoints, fit, newest
from impl.training.objective import Batch, auxiliary_losses, named_terms
from impl.training.preference import PairOutcomes, PreferenceBatch

__all__ = ["dpo", "dpo_resume", "inputs", "tapped", "with_step_0"]

Channels = dict[str, dict[str, Any]]
Settings = Mapping[str, Any]
Values = Mapping[str, np.ndarray]

REFERENCE = "reference/"
LN_2 = np.log(2.0)
"""What a pair costs that nobody can tell apart. In float32 0x3f317218, which is what softplus(0) gives."""


def inputs(settings: Settings, seed: int) -> dict[str, np.ndarray]:
    """Batches of pairs, and a reference "reference/<parameter>" that is neither the policy nor far from it.

    "unweighted": (start, step) empties every step-th pair of each batch from `start` on.
    """
    config = config_of(settings)
    made = pairs(
        rows=settings.get("rows", ROWS), length=config.max_target_length, steps=settings.get("steps", 1), seed=seed
    )
    for name, value in made.items():
        if "unweighted" in settings and name.endswith("_segments"):
            start, step = settings["unweighted"]
            value[start::step] = 0
    policy, other = draw(config, seed), draw(config, seed + 1)
    near = {name: (0.75 * value + 0.25 * other[name]).astype(value.dtype) for name, value in policy.items()}
    return {**made, **{REFERENCE + name: value for name, value in near.items()}}


def tapped(values: Values) -> Batch:
    """Both halves of the first pairs as rows of text, for what looks at the model alone."""
    first = _batch(values, 0)
    tokens, positions, segments = (np.concatenate(both) for both in zip(first[:3], first[3:], strict=True))
    return Batch(tokens, positions, segments, np.zeros_like(tokens), np.zeros_like(tokens))


def _batch(values: Values, step: int) -> PreferenceBatch:
    return PreferenceBatch(*[values[f"step{step}/{field}"] for field in PREFERENCE_FIELDS])


def _trainer(name: str, settings: Settings, weights: Values) -> Any:
    preference = preference_of(settings)
    if not preference.enable:
        raise ConfigError("preference optimisation is off: hand over PreferenceSettings(enable=True) as 'preference'")
    key = settings.get("key", 7)
    return side(name).PreferenceTrainer(config_of(settings), training_of(settings), preference, weights, key)


def dpo(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """What pairs teach: nothing while the policy is its reference, then k steps against another reference.

    "state" is the reference after the last step. It must be what it was before the first, to the bit.
    """
    trainer = _trainer(name, settings, weights)
    reference = {key.removeprefix(REFERENCE): value for key, value in inputs.items() if key.startswith(REFERENCE)}
    first = _batch(inputs, 0)
    config = config_of(settings)
    undecided = _undecided(config, trainer.evaluate(first), trainer.gradients(first)[0])
    trainer.refer(reference)
    evaluated = trainer.evaluate(first)
    gradients, terms = trainer.gradients(first)
    told = named_terms(terms) | auxiliary_losses(terms.aux, training_of(settings))
    losses = {f"gradient/{field}": value for field, value in told.items()}
    leaked = trainer.reference_gradients(first)
    for step in range(settings.get("steps", 1)):
        metrics = trainer.step(_batch(inputs, step))
        losses.update({f"step{step}/{key}": value for key, value in metrics.items()})
    after, kept = trainer.weights(), trainer.reference()
    return {
        "claims": {
            **undecided,
            **{f"{key} of the reference has no gradient": np.bool_(not np.any(g)) for key, g in leaked.items()},
            **{f"{key} of the reference did not move": _same(reference[key], value) for key, value in kept.items()},
            **{f"{key} was trained": ~_same(weights[key], value) for key, value in after.items()},
            "the loss tells the policy from its reference": ~np.all(_is_ln_2(evaluated.losses)),
            **{f"{name} is not zero": np.bool_(value != 0) for name, value in losses.items() if BALANCE in name},
        },
        "outputs": {f"pairs/{field}": value for field, value in evaluated._asdict().items()},
        "loss": losses,
        "gradients": gradients,
        "updates": {**after, **trainer.slots()},
        "state": {REFERENCE + key: value for key, value in kept.items()},
    }


def _undecided(config: ModelConfig, pairs: PairOutcomes, gradients: Values) -> dict[str, np.bool_]:
    """What must hold while policy and reference are the same: ln 2 for each pair, no reward, and yet a gradient.

    A routing bias that only chooses has none.
    """
    sloped = {name: np.any(value) for name, value in gradients.items()}
    return {
        "a policy that is its reference has loss ln 2": np.all(_is_ln_2(pairs.losses)),
        "a policy that is its reference has accuracy 0": ~np.any(pairs.chosen > pairs.rejected),
        "a policy that is its reference has margin 0": ~np.any(pairs.margins),
        "a policy that is its reference has a gradient": np.bool_(
            all(has != only_chooses(config, name) for name, has in sloped.items())
        ),
    }


def _is_ln_2(losses: np.ndarray) -> np.ndarray:
    """Which losses are ln 2 in their dtype, to the bit."""
    return losses == LN_2.astype(losses.dtype)


def _same(left: np.ndarray, right: np.ndarray) -> np.bool_:
    return np.bool_(left.dtype == right.dtype and left.tobytes() == right.tobytes())


def dpo_resume(name: str, settings: Settings, weights: Values, inputs: Values) -> Channels:
    """Interrupted equals uninterrupted: half the steps, checkpoints on disk, another process's fresh state, the rest.

    Checkpoints hold no reference. A fresh state takes it from step 0's, which holds the policy as it began.
    """
    steps = settings["steps"]
    with tempfile.TemporaryDirectory(prefix="dpo-resume-") as folder:
        made = partial(_trained, name, settings, weights, partial(_batch, inputs))
        straight, expected = made(Path(folder) / "straight", (steps,))
        resumed, got = made(Path(folder) / "broken", (steps // 2, steps))
        begun = resumed.saved_weights(load_tree(Path(folder) / "broken" / "0"))
    before = {**straight.weights(), **straight.slots()}
    after, kept = {**resumed.weights(), **resumed.slots()}, resumed.reference()
    claims = {f"{key} of the reference is step 0's": _same(value, begun[key]) for key, value in kept.items()}
    claims |= {f"{key} of the reference is not the policy's": ~_same(value, after[key]) for key, value in kept.items()}
    claims |= {f"{key} resumes": _same(value, after[key]) for key, value in before.items()}
    for step, metrics in got.items():
        claims |= {f"step{step}/{key} resumes": _same(value, expected[step][key]) for key, value in metrics.items()}
    claims["training went on after the break"] = np.bool_(len(got) == steps - steps // 2)
    state = {REFERENCE + key: value for key, value in kept.items()}
    channels: Channels = {"claims": claims, "state": state}
    return channels if config_of(settings).dropout_rate else {**channels, "updates": after}


def _trained(
    name: str,
    settings: Settings,
    weights: Values,
    batch: Callable[[int], PreferenceBatch],
    folder: Path,
    stops: tuple[int, ...],
) -> tuple[Any, dict[int, Any]]:
    """A trainer that ran up to each of `stops` in turn, each time from a fresh state and what is in `folder`.

    Fresh states start from other weights: whatever a checkpoint does not bring back stays visibly wrong.
    """
    metrics: dict[int, Any] = {}
    for begun, stop in enumerate(stops):
        trainer = _trainer(name, settings, {key: value + begun for key, value in weights.items()})
        with_step_0(trainer, folder)
        metrics = fit(trainer, batch, stop, Checkpoints(folder, max(stops)))
    return trainer, metrics


def with_step_0(trainer: Any, folder: Path) -> None:
    """Let step 0's checkpoint in `folder` be the trainer's reference; write it where `folder` holds none at all.

    Raises ConfigError where training went on from a step 0 that is no longer there: any later policy is no reference.
    """
    start = folder / "0"
    if newest(folder) < 0:
        save_tree(start, trainer.tree())
    elif not start.is_dir():
        raise ConfigError(
            f"{folder} has a checkpoint of step {newest(folder)} but none of step 0, whose policy is the reference: "
            "put it back, or start in an empty folder"
        )
    trainer.refer(trainer.saved_weights(load_tree(start)))
