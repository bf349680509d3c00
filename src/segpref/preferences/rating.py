"""An answer of a rater with what is needed to judge the rater, and estimates with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from jaxtyping import Float

from segpref.late import late

__all__ = ["Estimate", "Rating", "by_group", "exact_share", "interval_over"]

stats = late("scipy.stats")

RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What a rater answered once.

    Args:
        question: what was asked; the same for every rater and every repeat.
        case: image that it is about.
        patient: whose image it is.
        rater: pseudonym.
        answer: the option that was chosen, as a number from 0 in the question's own order, or a word
            such as ``tie`` where none was.
        options: how many there were to choose from: 2 of a pair, 4 of a best of four; 2 of accept (0)
            or reject (1).
        shown: for each place on the screen, the option that stood there; empty where they have no
            places.
        right: the option that is known to be right; None where that is not known.
        mode: how it was asked.
        structure: that it is about; all where None.
        repeat: whether the rater had answered the same question before.
        seconds: how long it took; None where that is not known.
        time: when it was stored.
    """

    question: str
    case: str
    patient: str
    rater: str
    answer: int | str
    options: int = 2
    shown: tuple[int, ...] = (0, 1)
    right: int | None = None
    mode: str = "pair"
    structure: str | None = None
    repeat: bool = False
    seconds: float | None = None
    time: datetime | None = None

    @property
    def place(self) -> int | None:
        """Where on the screen the chosen option stood, from 0; None where none was chosen."""
        if isinstance(self.answer, str) or self.answer not in self.shown:
            return None
        return self.shown.index(self.answer)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval.

    Args:
        value: NaN where it is not defined.
        low: lower end; NaN where there is too little for an interval.
        high: upper end.
        count: of what it was measured on, such as votes or questions.
    """

    value: float
    low: float
    high: float
    count: int

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain figures for a JSON file; None for what is not known."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {**{k: None if math.isnan(v) else v for k, v in ends.items()}, "count": self.count}


def by_group(
    parts: Float[np.ndarray, "unit ..."], groups: Sequence[Hashable]
) -> Float[np.ndarray, "group ..."]:
    """Sums over the units of each group, in the order in which groups first appear."""
    number = {name: index for index, name in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(number), *parts.shape[1:]))
    np.add.at(sums, [number[name] for name in groups], parts)
    return sums


def interval_over(
    parts: Float[np.ndarray, "unit ..."],
    groups: Sequence[Hashable],
    statistic: Callable[[Float[np.ndarray, ...]], float],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a figure that depends on sums over units alone.

    Whole groups are drawn: answers about one image, or one patient, are not independent.

    Args:
        parts: what is summed, of each unit.
        groups: the image or patient of each unit.
        statistic: the figure from the sum.
        resamples: how often groups are drawn.
        seed: random seed.

    Returns:
        The ends; NaN where there are fewer than two groups, or fewer than half of the draws define the
        figure.
    """
    sums = by_group(parts, groups)
    if len(sums) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    drawn = np.tensordot(weights, sums, axes=1)
    values = np.array([statistic(one) for one in drawn])
    values = values[~np.isnan(values)]
    if len(values) < resamples / 2:
        return math.nan, math.nan
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def exact_share(successes: int, count: int) -> Estimate:
    """A share with its exact binomial interval (Clopper and Pearson, 1934); NaN of nothing."""
    if not count:
        return Estimate(math.nan, math.nan, math.nan, 0)
    found = stats.binomtest(successes, count).proportion_ci(method="exact")
    return Estimate(successes / count, float(found.low), float(found.high), count)
