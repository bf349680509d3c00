"""The targets of gamma-PO: a convex problem over the simplex, solved through its multiplier."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from segpref.late import late

__all__ = ["optimal_shares"]

optimize, special = late("scipy.optimize"), late("scipy.special")

_HALVINGS = 64
_LEAST_LOG = -700.0
"""Below it a share is 0 in float64."""


def optimal_shares(
    rewards: Float[np.ndarray, " P"], gamma: float, tau: float
) -> Float[np.ndarray, " P"]:
    """Shares ``q`` of sum 1 that minimise gamma-PO's problem (Sun et al., 2025).

    ``mean_i log(1 + exp(gamma P q_i - r_i)) + tau sum_i q_i log(P q_i)``. At the minimum the slope
    ``gamma sigmoid(gamma P q_i - r_i) + tau log(P q_i)`` is the same number for all i; for a given
    number each share is found by bisection, and the number is the one at which the shares have the
    sum 1. So neither many pairs nor a large gamma or a small tau change how exact the result is.

    Args:
        rewards: ``r``, finite.
        gamma: mean target, above 0.
        tau: how equal the targets are kept, above 0.
    """
    count = len(rewards)

    def shares(slope: float) -> Float[np.ndarray, " P"]:
        # log(P q): the sigmoid lies between 0 and 1, and no share is above 1.
        low = np.full(count, max((slope - gamma) / tau, _LEAST_LOG))
        high = np.full(count, min(slope / tau, np.log(count)))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = gamma * special.expit(gamma * np.exp(middle) - rewards) + tau * middle > slope
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return np.asarray(np.exp((low + high) / 2) / count)

    # At 0 no share is above 1 / P, at gamma none is below it.
    spare = 1e-9 * tau
    slope = optimize.brentq(
        lambda at: shares(at).sum() - 1, -spare, gamma + spare, xtol=1e-14, rtol=1e-14
    )
    found = shares(slope)
    return np.asarray(found / found.sum())
