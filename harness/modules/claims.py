"""Claims of one side alone: equal values prove nothing while a loss term is zero or a dropout is idle on both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from harness.modules.engine import Drop, Masks

__all__ = ["dropout_claims", "loss_claims"]

_SIGMAS = 6.0
"""Width of the binomial bound on dropped values: a right rate leaves it once in 5e8 draws."""


def loss_claims(terms: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """`terms` and `others`: the loss terms of two batches."""
    claims = {}
    for name, value in terms.items():
        claims[f"loss {name} is not trivially zero"] = np.array(bool(np.all(value != 0)))
        claims[f"loss {name} changes with the inputs"] = np.array(bool(np.any(value != others[name])))
    return claims


def dropout_claims(masks: Masks) -> dict[str, np.ndarray]:
    """Whether masks are drawn anew, absent in eval mode, as frequent as the rate says, and kept values scaled up."""
    claims = {
        "dropout: no two train calls draw the same mask": np.array(_all_differ(masks.train)),
        "dropout: two eval calls agree": np.array(_same(*masks.evaluate)),
    }
    rates = sorted({drop.rate for drop in masks.drops})
    for rate in rates:
        drops = [drop for drop in masks.drops if drop.rate == rate]
        claims[f"dropout: rate {rate} within {_SIGMAS} sigma"] = np.array(_rate_holds(rate, drops))
        claims[f"dropout: rate {rate} scales what it keeps"] = np.array(_scale_holds(rate, drops))
    return claims


def _same(left: Any, right: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, left, right)))


def _all_differ(outputs: tuple[Any, ...]) -> bool:
    return not any(_same(left, right) for at, left in enumerate(outputs) for right in outputs[at + 1 :])


def _rate_holds(rate: float, drops: list[Drop]) -> bool:
    """Counts only inputs that are not zero: of the others nobody can say whether they were dropped."""
    seen = sum(int(np.count_nonzero(drop.before)) for drop in drops)
    dropped = sum(int(np.count_nonzero((drop.before != 0) & (drop.after == 0))) for drop in drops)
    return seen > 0 and abs(dropped - rate * seen) <= _SIGMAS * np.sqrt(seen * rate * (1 - rate))


def _scale_holds(rate: float, drops: list[Drop]) -> bool:
    for drop in drops:
        kept = drop.after != 0
        before, after = (value[kept].astype(np.float64) for value in (drop.before, drop.after))
        # One rounding of the quotient, in the coarsest dtype in use (bfloat16 keeps 8 bits).
        if not np.allclose(after, before / (1 - rate), rtol=2.0**-7, atol=0):
            return False
    return any(np.any(drop.after != 0) for drop in drops)
