"""Simulated raters: noisy views of the true quality, lapses, a side, ties. See docs/results/votes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["FLAWLESS", "RATERS", "Habits", "answer", "best_of", "chance_right"]

Answer = Literal["left", "right", "tie", "cant-tell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a rater judges.

    Args:
        agreement: intraclass correlation of single views of masks with those of another rater like
            this one; sets the noise.
        lapse: share of answers that do not depend on the masks.
        left: where an answer does not depend on the masks, how often it is left.
        tie_within: two views that differ by less, in standard deviations of quality, are a tie.
        cant_tell: share of the answers that say so.
    """

    agreement: float
    lapse: float
    left: float = 0.5
    tie_within: float = 0.1
    cant_tell: float = 0.02

    @property
    def noise(self) -> float:
        """Standard deviation of a view of a mask, in standard deviations of quality.

        Agreement is the share of the variance that is common: ``1 / (1 + noise ** 2)``.
        """
        return math.sqrt(1 / self.agreement - 1)


RATERS = {
    "heron": Habits(agreement=0.785, lapse=0.02),
    "plover": Habits(agreement=0.67, lapse=0.04),
    "wren": Habits(agreement=0.562, lapse=0.06, left=0.8),
}
"""A careful rater, a usual one, and one who is less careful and leans to the left."""

FLAWLESS = {"truth": Habits(agreement=1.0, lapse=0.0, tie_within=1e-9, cant_tell=0.0)}
"""Who always chooses the better mask: what noise takes from the others."""


def answer(
    habits: Habits, left: float, right: float, spread: float, rng: np.random.Generator
) -> Answer:
    """What a rater says of two masks.

    Args:
        habits: of the rater.
        left: true quality of the mask on the left.
        right: of that on the right.
        spread: standard deviation of quality over the masks of the study, above 0.
        rng: of the rater.
    """
    if rng.random() < habits.cant_tell:
        return "cant-tell"
    if rng.random() < habits.lapse:
        return "left" if rng.random() < habits.left else "right"
    first, second = np.array([left, right]) / spread + rng.normal(0, habits.noise, 2)
    if abs(first - second) < habits.tie_within:
        return "tie"
    return "left" if first > second else "right"


def best_of(
    habits: Habits, qualities: Sequence[float], spread: float, rng: np.random.Generator
) -> str:
    """Which of several masks a rater calls the best: the place of one (``best-N``), or can't tell.

    Views as in :func:`answer`; where an answer does not depend on the masks, every place is as likely.
    """
    if rng.random() < habits.cant_tell:
        return "cant-tell"
    if rng.random() < habits.lapse:
        return f"best-{rng.integers(len(qualities))}"
    views = np.array(qualities) / spread + rng.normal(0, habits.noise, len(qualities))
    return f"best-{views.argmax()}"


def chance_right(habits: Habits, gap: float) -> float:
    """How often the better of two masks is chosen where one is chosen, ``gap`` spreads apart."""
    width = math.sqrt(2) * habits.noise

    def beyond(value: float) -> float:
        return 0.5 * math.erfc(-value / (math.sqrt(2) * width))

    right, wrong = beyond(gap - habits.tie_within), beyond(-gap - habits.tie_within)
    right, wrong = (habits.lapse / 2 + (1 - habits.lapse) * one for one in (right, wrong))
    return right / (right + wrong)
