"""Batches of pairs, their loss from log-probabilities, its terms by name, and what a batch must be."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from impl.config import ConfigError, ModelConfig
from impl.experts import BALANCE
from impl.latent import PEAKS
from impl.math.precision import full
from impl.math.preference import (
    Pairs,
    completion_logps,
    completion_masks,
    preference_losses,
    rewards,
    shared_masks,
)
from impl.training.auxiliary import blank
from impl.training.checks import BatchError, check_rows
from impl.training.objective import Shares, added_auxiliary, auxiliary_losses
from impl.training.settings import PreferenceSettings, TrainSettings

__all__ = [
    "PairOutcomes",
    "PreferenceBatch",
    "PreferenceTerms",
    "added_terms",
    "check_pairs",
    "outcomes",
    "pair_logps",
    "pair_masks",
    "pair_shares",
    "preference_metrics",
    "preference_objective",
    "stacked",
    "with_told",
    "zero_terms",
]

_Array = TypeVar("_Array", jax.Array, np.ndarray)
"""What enters and leaves a jitted step as NumPy is a jax.Array inside it."""


class PreferenceBatch(NamedTuple, Generic[_Array]):
    """int32 [B, T] each: tokens, positions and segment ids (1, or 0 for padding) of chosen and of rejected rows."""

    chosen: _Array
    chosen_positions: _Array
    chosen_segments: _Array
    rejected: _Array
    rejected_positions: _Array
    rejected_segments: _Array


class PairOutcomes(NamedTuple, Generic[_Array]):
    """float32 [B] each: loss, margin, and the rewards that it is the difference of."""

    losses: _Array
    margins: _Array
    chosen: _Array
    rejected: _Array


class PreferenceTerms(NamedTuple, Generic[_Array]):
    """Sums over pairs, float32 (): losses, pairs that count, pairs ranked rightly, margins, rewards of either row.

    Sums add over microbatches. A pair counts if at least one of its tokens does: two equal rows teach nothing.
    aux: what the policy's layers told of both halves' rows, by name, as `impl.training.auxiliary` collects it.
    """

    loss_sum: _Array
    pairs: _Array
    ranked: _Array
    margin_sum: _Array
    chosen_sum: _Array
    rejected_sum: _Array
    aux: dict[str, _Array] = {}


def zero_terms(config: ModelConfig) -> PreferenceTerms:
    """Terms of nothing, to add to."""
    zero = jnp.zeros((), full())
    return PreferenceTerms(zero, zero, zero, zero, zero, zero, blank(config))


def added_terms(total: PreferenceTerms, part: PreferenceTerms) -> PreferenceTerms:
    """Terms of microbatches together: their sums, but of the largest logits the largest."""
    return jax.tree.map(jnp.add, total, part)._replace(aux=added_auxiliary(total.aux, part.aux))


def stacked(batch: PreferenceBatch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens, positions and segment ids [2B, T] of one forward pass over both: chosen rows, then rejected rows."""
    fields = zip(batch[:3], batch[3:], strict=True)
    tokens, positions, segments = (jnp.concatenate(both) for both in fields)
    return tokens, positions, segments


def pair_masks(batch: PreferenceBatch, preference: PreferenceSettings) -> Pairs:
    """Which tokens count, two bool [B, T - 1]: each row's own completion, or what `formula` says instead."""
    tokens, segments = Pairs(batch.chosen, batch.rejected), Pairs(batch.chosen_segments, batch.rejected_segments)
    own = completion_masks(tokens, segments)
    return own if preference.formula == "paper" else shared_masks(own)


def pair_logps(logits: jax.Array, batch: PreferenceBatch, masks: Pairs) -> Pairs:
    """Log-probabilities of the completions, two float32 [B], from the logits [2B, T, V] of `stacked` rows."""
    rows = batch.chosen.shape[0]
    return Pairs(
        completion_logps(logits[:rows], batch.chosen, masks.chosen),
        completion_logps(logits[rows:], batch.rejected, masks.rejected),
    )


def outcomes(policy: Pairs, reference: Pairs, preference: PreferenceSettings) -> PairOutcomes:
    """What each pair came to, from the log-probabilities of its completions."""
    chosen, rejected = (rewards(ours, theirs, preference.beta) for ours, theirs in zip(policy, reference, strict=True))
    margins = chosen - rejected
    steep = margins if preference.formula == "paper" else preference.beta * margins
    return PairOutcomes(preference_losses(steep, preference.label_smoothing), margins, chosen, rejected)


def preference_objective(
    policy: Pairs, reference: Pairs, masks: Pairs, settings: TrainSettings, preference: PreferenceSettings
) -> tuple[jax.Array, PreferenceTerms]:
    """What is differentiated, and its terms.

    The mean over pairs that count; under accumulation the plain sum, which is divided by all microbatches' pairs.
    """
    counts = _counting(masks)
    losses, margins, chosen, rejected = outcomes(policy, reference, preference)
    columns = (losses, jnp.ones_like(losses), (chosen > rejected).astype(full()), margins, chosen, rejected)
    terms = jax.tree.map(lambda column: jnp.sum(column * counts), PreferenceTerms(*columns))
    if settings.gradient_accumulation_steps > 1:
        return terms.loss_sum, terms
    return terms.loss_sum / jnp.maximum(terms.pairs, 1.0), terms


def _counting(masks: Pairs) -> jax.Array:
    """1 for each pair of which a token counts, else 0: float32 [B]."""
    return (jnp.any(masks.chosen, axis=1) | jnp.any(masks.rejected, axis=1)).astype(full())


def pair_shares(batch: PreferenceBatch, settings: TrainSettings, preference: PreferenceSettings) -> Shares:
    """What the policy's load-balance loss of one microbatch counts in what is differentiated.

    So much that, once all is divided by the whole `batch`'s pairs, the mean over microbatches is left: rows weigh alike
    in it, so that it is the whole batch's. MaxText leaves it at 1, and its gradient shrinks with the number of pairs.
    """
    count = settings.gradient_accumulation_steps
    if count == 1:
        return {BALANCE: 1.0}
    return {BALANCE: jnp.maximum(jnp.sum(_counting(pair_masks(batch, preference))), 1.0) / count}


def with_told(
    value: jax.Array, terms: PreferenceTerms, aux: dict[str, jax.Array], shares: Shares
) -> tuple[jax.Array, PreferenceTerms]:
    """An objective and its terms with what the policy's layers told: losses among it count by their share.

    The reference's layers tell nothing: whatever its experts are loaded with, nobody trains them.
    """
    for name in shares.keys() & aux.keys():
        value = value + shares[name] * aux[name]
    return value, terms._replace(aux=aux)


def preference_metrics(
    terms: PreferenceTerms, norms: dict[str, jax.Array], settings: TrainSettings
) -> dict[str, jax.Array]:
    """Every number a step reports, float32 (), means over the pairs that count: 0 where none does.

    The loss is the pairs' and the policy's load-balance loss together; where there is one, both stand beside it.
    """
    many = jnp.maximum(terms.pairs, 1.0)
    means = {
        "loss": terms.loss_sum,
        "reward_accuracy": terms.ranked,
        "reward_margin": terms.margin_sum,
        "chosen_reward": terms.chosen_sum,
        "rejected_reward": terms.rejected_sum,
    }
    found = {name: value / many for name, value in means.items()}
    if further := auxiliary_losses(terms.aux, settings):
        found |= {"dpo_loss": found["loss"], **further, "loss": sum(further.values(), found["loss"])}
    return {
        **{f"learning/{name}": value for name, value in found.items()},
        "learning/total_weights": terms.pairs,
        **{f"learning/{name}": jnp.max(terms.aux[name]) for name in {PEAKS} & terms.aux.keys()},
        **{f"learning/{name}": value for name, value in norms.items()},
    }


def check_pairs(batch: PreferenceBatch, config: ModelConfig, settings: TrainSettings) -> None:
    """Raise BatchError unless `batch` fits `config`, and ConfigError unless its rows divide into microbatches."""
    if config.mtp_num_layers:
        raise ConfigError(
            f"{config.name}: mtp_num_layers={config.mtp_num_layers}: pairs teach no further tokens; set it to 0"
        )
    if config.quantization:
        raise ConfigError(
            f"{config.name}: quantization={config.quantization!r}: pairs are learnt without 8-bit products; use ''"
        )
    if settings.num_vocab_tiling > 1:
        raise ConfigError(
            f"num_vocab_tiling={settings.num_vocab_tiling}: the loss of pairs is not made in tiles; set it to 1"
        )
    fields: dict[str, Any] = {name: np.asarray(value) for name, value in batch._asdict().items()}
    check_rows(fields, ("chosen", "rejected"), config, settings)
    for name in ("chosen_segments", "rejected_segments"):
        found = np.setdiff1d(fields[name], (0, 1))
        if found.size:
            raise BatchError(f"{name} hold {found[0]}: a row is one half of a pair, 1, and padding, 0; do not pack it")
