"""From a judge's score to Dice: a rising step function, intervals around it, and thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from segpref.late import late
from segpref.types import SegprefError

__all__ = ["LEAST", "Calibration", "Rising", "threshold"]

optimize: Any = late("scipy.optimize")

LEAST = 5
"""With fewer scored masks nothing can be said of a structure."""


class Rising:
    """Least squares among functions that never fall (isotonic regression).

    Pool-adjacent-violators as in Best & Chakravarti (Mathematical Programming 47, 1990), by SciPy;
    masks of equal score count as one of their mean, with their number as its weight. Between scores
    that were seen the function is linear, beyond them it is constant.

    Args:
        scores: of the judge, at least one.
        dice: measured.
    """

    def __init__(self, scores: Float[np.ndarray, " n"], dice: Float[np.ndarray, " n"]) -> None:
        self.scores, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
        means = np.bincount(places.ravel(), weights=dice) / counts
        self.dice = np.asarray(optimize.isotonic_regression(means, weights=counts).x, float)

    def __call__(self, scores: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Dice of masks with these scores."""
        return np.asarray(np.interp(scores, self.scores, self.dice))


@dataclass(frozen=True)
class Calibration:
    """What a judge's score says of the Dice of one structure, from masks with both.

    The interval is the jackknife+ of Barber, Candès, Ramdas and Tibshirani (Annals of Statistics 49,
    2021), leaving out one *patient* at a time. With ``n`` masks, residuals ``R_i`` and functions
    ``f_-i`` made without the patient of mask i, and ``a = 1 - coverage``, it reaches from the
    ``floor(a (n + 1))``-th smallest ``f_-i(x) - R_i`` to the ``ceil((1 - a) (n + 1))``-th smallest
    ``f_-i(x) + R_i``, cut to 0 ... 1; where n is too small for that, to 0 or 1. Their Theorem 1: of a
    new mask that is exchangeable with these it covers at least ``1 - 2a``, in practice about ``1 - a``.
    It promises nothing for images that differ from these (other scanners, other diseases), and less
    than that where patients have several correlated masks.

    Args:
        scores: of the judge; NaN abstains, and such masks are left out.
        dice: measured; 1 where mask and label both lack the structure.
        patients: a number for each mask's patient.
        coverage: how often the interval is to hold the true Dice.
    """

    scores: tuple[float, ...]
    dice: tuple[float, ...]
    patients: tuple[int, ...]
    coverage: float = 0.9

    @cached_property
    def known(self) -> bool:
        """Whether there are :data:`LEAST` scored masks, of two patients; else all it says is NaN."""
        return len(self._scores) >= LEAST and len(set(self._patients)) > 1

    def predicted(self, scores: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Predicted Dice; NaN where the judge abstains."""
        scores = np.asarray(scores, float)
        if not self.known:
            return np.full(scores.shape, np.nan)
        return np.where(np.isnan(scores), np.nan, self._all(np.nan_to_num(scores)))

    def interval(
        self, scores: Float[np.ndarray, " m"]
    ) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Lower and upper end; NaN where the judge abstains."""
        scores = np.asarray(scores, float)
        nothing = np.full(scores.shape, np.nan)
        if not self.known:
            return nothing, nothing
        held, residuals = self._held_out
        each = np.stack([one(np.nan_to_num(scores)) for one in held.values()])
        each = each[np.searchsorted(list(held), self._patients)]
        count, miss = len(residuals), 1 - self.coverage
        # Decimals of binary fractions: 0.1 * 10 must be 1.
        low = math.floor(round(miss * (count + 1), 9))
        high = math.ceil(round((1 - miss) * (count + 1), 9))
        lower = np.zeros(scores.shape)
        upper = np.ones(scores.shape)
        if low >= 1:
            lower = np.sort(each - residuals[:, None], axis=0)[low - 1]
        if high <= count:
            upper = np.sort(each + residuals[:, None], axis=0)[high - 1]
        silent = np.isnan(scores)
        ends = (np.where(silent, np.nan, np.clip(end, 0, 1)) for end in (lower, upper))
        return next(ends), next(ends)

    @cached_property
    def _valid(self) -> np.ndarray:
        return np.asarray(~np.isnan(np.array(self.scores, float)))

    @cached_property
    def _scores(self) -> np.ndarray:
        return np.asarray(np.array(self.scores, float)[self._valid])

    @cached_property
    def _dice(self) -> np.ndarray:
        return np.asarray(np.array(self.dice, float)[self._valid])

    @cached_property
    def _patients(self) -> np.ndarray:
        return np.asarray(np.array(self.patients, int)[self._valid])

    @cached_property
    def _all(self) -> Rising:
        return Rising(self._scores, self._dice)

    @cached_property
    def _held_out(self) -> tuple[dict[int, Rising], Float[np.ndarray, " n"]]:
        """A function without each patient, in ascending order, and how far it misses their masks."""
        found, residuals = {}, np.empty(len(self._dice))
        for patient in np.unique(self._patients).tolist():
            own = self._patients == patient
            found[patient] = Rising(self._scores[~own], self._dice[~own])
            residuals[own] = np.abs(self._dice[own] - found[patient](self._scores[own]))
        return found, residuals


def threshold(values: Sequence[float], share: float) -> float:
    """What at most this share of new exchangeable values lies above (split conformal prediction).

    The ``ceil((1 - share) (n + 1))``-th smallest of n values; where there are too few for that the
    largest, above which ``1 / (n + 1)`` of new ones are. NaN are left out; NaN without any value.

    Reference: Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World, 2005.
    """
    if not 0 < share < 1:
        raise SegprefError(f"a share lies between 0 and 1, unlike {share}")
    known = np.sort([value for value in values if not math.isnan(value)])
    if not len(known):
        return math.nan
    place = math.ceil(round((1 - share) * (len(known) + 1), 9))
    return float(known[min(place, len(known)) - 1])
