"""The loss of a batch from its logits, its terms by name, gradient norms, and what accumulation does with sums."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from impl.config import ModelConfig
from impl.experts import BALANCE
from impl.latent import PEAKS
from impl.math.loss import EPSILON, loss_terms
from impl.math.mtp import total_places
from impl.math.precision import full
from impl.math.tiling import Tiling, tiled_loss_terms
from impl.sharding.axes import summed
from impl.training.settings import TrainSettings

__all__ = [
    "ACCEPTED",
    "JUDGED",
    "PREDICTION_SUM",
    "PREDICTION_WEIGHTS",
    "Batch",
    "Shares",
    "Terms",
    "added",
    "added_auxiliary",
    "auxiliary_losses",
    "auxiliary_shares",
    "clipped",
    "finish",
    "global_norm",
    "metrics",
    "named_terms",
    "objective",
    "scaled",
    "tiled_objective",
    "with_auxiliary",
]

PREDICTION_SUM, PREDICTION_WEIGHTS = "mtp_loss_sum", "mtp_weights"
"""The loss of predicting further, scaled, summed over places; and how many places, in all layers."""

ACCEPTED, JUDGED = "mtp_accepted", "mtp_judged"
"""At how many of how many places a layer that predicts further agrees with the model itself."""

_Array = TypeVar("_Array", jax.Array, np.ndarray)
"""What enters and leaves a jitted step as NumPy is a jax.Array inside it."""


Shares = dict[str, Any]
"""How often each auxiliary loss counts in what is differentiated, by the name of its term."""


class Batch(NamedTuple, Generic[_Array]):
    """tokens, positions, segment_ids, targets, target_segments: int32 [B, T]; segment 0 is padding, unweighted."""

    tokens: _Array
    positions: _Array
    segment_ids: _Array
    targets: _Array
    target_segments: _Array


class Terms(NamedTuple, Generic[_Array]):
    """Sums over tokens, float32 (): cross entropy with z-loss, z-loss alone, weights. Sums add over microbatches.

    aux: terms that only some models have, by name, as `impl.training.auxiliary` collects them.
    """

    xent_sum: _Array
    z_sum: _Array
    weights: _Array
    aux: dict[str, _Array] = {}


def named_terms(terms: Any) -> dict[str, Any]:
    """Every term of a loss by its name, auxiliary ones among the others."""
    return {name: value for name, value in terms._asdict().items() if name != "aux"} | terms.aux


def added(total: Terms, part: Terms) -> Terms:
    """Terms of microbatches together: their sums, but of the largest logits the largest.

    MaxText adds these up too: under accumulation it clips heads that no microbatch saw beyond the threshold.
    """
    return jax.tree.map(jnp.add, total, part)._replace(aux=added_auxiliary(total.aux, part.aux))


def added_auxiliary(total: dict[str, jax.Array], part: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Auxiliary terms of microbatches together, as `added` says."""
    return {name: (jnp.maximum if name == PEAKS else jnp.add)(value, part[name]) for name, value in total.items()}


def objective(logits: jax.Array, batch: Batch, settings: TrainSettings) -> tuple[jax.Array, Terms]:
    """What is differentiated, and its terms.

    The mean over weighted tokens; under accumulation the plain sum, which `finish` divides by the weights of all
    microbatches together, so that unequal ones count by their tokens.
    """
    found = summed(partial(loss_terms, z_loss=settings.z_loss_multiplier))
    terms = Terms(*found(logits, batch.targets, batch.target_segments))
    return _weighed(terms, settings)


def tiled_objective(
    head: Callable[[Any, jax.Array], jax.Array],
    weights: Any,
    hidden: jax.Array,
    batch: Batch,
    settings: TrainSettings,
) -> tuple[jax.Array, Terms]:
    """`objective` of the logits head(weights, hidden), of which only one tile's exist at a time."""
    tiling = Tiling(settings.num_vocab_tiling, settings.z_loss_multiplier, settings.vocab_tiling_gradients)
    terms = summed(partial(tiled_loss_terms, head, tiling))(weights, hidden, batch.targets, batch.target_segments)
    return _weighed(Terms(*terms), settings)


def _weighed(terms: Terms, settings: TrainSettings) -> tuple[jax.Array, Terms]:
    if settings.gradient_accumulation_steps > 1:
        return terms.xent_sum, terms
    return terms.xent_sum / (terms.weights + EPSILON), terms


def with_auxiliary(
    value: jax.Array, terms: Terms, aux: dict[str, jax.Array], shares: Shares
) -> tuple[jax.Array, Terms]:
    """An objective and its terms with auxiliary ones: losses among them count by their share in what is differentiated.

    Under accumulation the objective is a sum over tokens: see `auxiliary_shares`.
    """
    for name, share in shares.items():
        if name in aux:
            value = value + share * aux[name]
    return value, terms._replace(aux=aux)


def auxiliary_shares(batch: Batch, settings: TrainSettings, config: ModelConfig) -> Shares:
    """What each auxiliary loss of one microbatch counts, so that after division by all weights the right sum is left.

    Of the load-balance loss that is the mean over microbatches; of the loss of predicting further the mean over all
    places of the whole `batch`, so that unequal microbatches count by their places.
    MaxText leaves both at 1 under accumulation, and their gradients shrink with the number of tokens.
    """
    count = settings.gradient_accumulation_steps
    divided = 1.0 if count == 1 else jnp.maximum(jnp.sum(batch.target_segments != 0).astype(full()), 1.0)
    shares: Shares = {BALANCE: divided / count}
    if config.mtp_num_layers:
        places = total_places(batch.target_segments, batch.segment_ids, config.mtp_num_layers)
        shares[PREDICTION_SUM] = divided / (places + EPSILON)
    return shares


def auxiliary_losses(aux: dict[str, jax.Array], settings: TrainSettings) -> dict[str, jax.Array]:
    """Auxiliary losses of the whole batch from sums over microbatches, by the names under which they are reported."""
    found = {}
    if BALANCE in aux:
        found[BALANCE] = aux[BALANCE] / settings.gradient_accumulation_steps
    if PREDICTION_SUM in aux:
        found["mtp_loss"] = aux[PREDICTION_SUM] / (aux[PREDICTION_WEIGHTS] + EPSILON)
    return found


def _agreement(terms: Terms) -> dict[str, jax.Array]:
    """How often a layer that predicts further agrees with the model itself, where that is asked for."""
    aux = terms.aux
    if JUDGED not in aux:
        return {}
    return {"mtp_acceptance_rate_percent": 100.0 * aux[ACCEPTED] / (aux[JUDGED] + EPSILON)}


def scaled(grads: Any, weights: jax.Array) -> Any:
    """Gradients of a sum over microbatches -> of the mean over weighted tokens; zeros where nothing had weight."""
    divisor = jnp.maximum(weights, 1.0)
    return jax.tree.map(lambda g: jnp.where(weights == 0, jnp.zeros_like(g), (g / divisor).astype(g.dtype)), grads)


def global_norm(tree: Any) -> jax.Array:
    """Euclidean norm over all leaves, float32 ().

    The leaves' sums of squares are sorted before they are added: trees that name or order their layers differently
    (layers_10 before layers_2, or after) then have the same norm to the last bit.
    """
    squares = [jnp.sum(jnp.square(leaf.astype(full()))) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jnp.sort(jnp.stack(squares))))


def clipped(grads: Any, norm: jax.Array, settings: TrainSettings) -> Any:
    """Gradients scaled down to the threshold where their norm exceeds it."""
    limit = settings.gradient_clipping_threshold
    if limit <= 0:
        return grads
    factor = jnp.where(norm > limit, limit / norm, 1.0)
    return jax.tree.map(lambda g: (g * factor).astype(g.dtype), grads)


def finish(terms: Terms, settings: TrainSettings) -> jax.Array:
    """The reported loss from summed terms: 0 where no token had weight."""
    if settings.gradient_accumulation_steps > 1:
        loss = jnp.where(terms.weights == 0, 0.0, terms.xent_sum / jnp.maximum(terms.weights, 1.0))
    else:
        loss = terms.xent_sum / (terms.weights + EPSILON)
    return sum(auxiliary_losses(terms.aux, settings).values(), loss)


def metrics(terms: Terms, norms: dict[str, jax.Array], settings: TrainSettings) -> dict[str, jax.Array]:
    """Every number a step reports, by MaxText's names, float32 ()."""
    lm_loss = terms.xent_sum / (terms.weights + EPSILON)
    return {
        "learning/loss": finish(terms, settings),
        "learning/lm_loss": lm_loss,
        "learning/perplexity": jnp.exp(lm_loss),
        "learning/z_loss": terms.z_sum / (terms.weights + EPSILON),
        "learning/total_weights": terms.weights,
        **{
            f"learning/{name}": value
            for name, value in (auxiliary_losses(terms.aux, settings) | _agreement(terms)).items()
        },
        **{f"learning/{name}": jnp.max(terms.aux[name]) for name in {PEAKS} & terms.aux.keys()},
        **{f"learning/{name}": value for name, value in norms.items()},
    }
