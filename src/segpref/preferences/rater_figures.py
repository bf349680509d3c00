"""What ratings show of raters: agreement with themselves and others, sides, known answers, times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from segpref.preferences.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from segpref.preferences.rating import RESAMPLES, Estimate, Rating, exact_share, interval_over

__all__ = [
    "BetweenRaters",
    "Repeats",
    "VoteTimes",
    "between_raters",
    "gold_accuracy",
    "repeats",
    "side_share",
    "vote_times",
]

NOTHING = Estimate(math.nan, math.nan, math.nan, 0)
TOO_FAST = 1.0
"""Seconds in which nobody compares two masks."""

_ORDER = {0: 0.0, "tie": 1.0, 1: 2.0}


@dataclass(frozen=True, slots=True)
class BetweenRaters:
    """How far raters agree with each other.

    Args:
        alpha: Krippendorff's, all answers being different categories.
        ordinal: Krippendorff's, of pairs: first, tie, second in this order, other answers missing.
        fleiss: Fleiss' kappa over the questions answered by the number of raters that most were.
        fleiss_raters: this number.
        cohen: Cohen's kappa of each two raters who answered the same question.
    """

    alpha: Estimate
    ordinal: Estimate
    fleiss: Estimate
    fleiss_raters: int
    cohen: dict[tuple[str, str], Estimate]


@dataclass(frozen=True, slots=True)
class Repeats:
    """How far a rater agrees with the rater's own first answers.

    Args:
        same: share of repeats that were answered the same way.
        kappa: Cohen's.
    """

    same: Estimate
    kappa: Estimate


@dataclass(frozen=True, slots=True)
class VoteTimes:
    """Seconds per vote.

    Args:
        median: NaN where no time is known.
        lower: quartile.
        upper: quartile.
        too_fast: how many took less than a second.
        count: how many times are known.
    """

    median: float
    lower: float
    upper: float
    too_fast: int
    count: int


def between_raters(ratings: Sequence[Rating], resamples: int = RESAMPLES) -> BetweenRaters:
    """How far raters agree with each other, with intervals over images; repeats do not count."""
    first: dict[str, dict[str, Rating]] = {}
    for one in ratings:
        if not one.repeat:
            first.setdefault(one.question, {})[one.rater] = one
    shared = [answers for answers in first.values() if len(answers) > 1]
    if not shared:
        return BetweenRaters(NOTHING, NOTHING, NOTHING, 0, {})
    raters = {name: i for i, name in enumerate(sorted({n for one in shared for n in one}))}
    given = {one.answer for answers in shared for one in answers.values()}
    kinds = {answer: i for i, answer in enumerate(sorted(given, key=str))}
    cases = [next(iter(one.values())).case for one in shared]
    nominal = np.full((len(raters), len(shared)), np.nan)
    ordinal = nominal.copy()
    for unit, answers in enumerate(shared):
        for name, one in answers.items():
            nominal[raters[name], unit] = kinds[one.answer]
            if one.options == 2 and len(one.shown) == 2:
                ordinal[raters[name], unit] = _ORDER.get(one.answer, math.nan)
    sizes = [len(one) for one in shared]
    size = max(sorted(set(sizes)), key=sizes.count)
    same_size = [i for i, one in enumerate(shared) if len(one) == size]
    counts = np.stack([(nominal[:, same_size] == k).sum(axis=0) for k in kinds.values()], axis=1)
    cohen = {}
    for a, b in combinations(raters, 2):
        both = [one for one in shared if a in one and b in one]
        if both:
            cohen[a, b] = cohen_kappa(
                [one[a].answer for one in both],
                [one[b].answer for one in both],
                [one[a].case for one in both],
                resamples,
            )
    return BetweenRaters(
        krippendorff_alpha(nominal, "nominal", cases, resamples),
        krippendorff_alpha(ordinal, "ordinal", cases, resamples),
        fleiss_kappa(counts, [cases[i] for i in same_size], resamples),
        size,
        cohen,
    )


def repeats(ratings: Sequence[Rating], resamples: int = RESAMPLES) -> Repeats:
    """How far one rater agrees with the rater's own first answers.

    Intervals are over images; that of a share of none or all is the exact binomial one.
    """
    first: dict[str, Rating] = {}
    pairs = []
    for one in ratings:
        if one.repeat and one.question in first:
            pairs.append((first[one.question], one))
        first.setdefault(one.question, one)
    if not pairs:
        return Repeats(NOTHING, NOTHING)
    same = np.array([[a.answer == b.answer, 1] for a, b in pairs], dtype=float)
    cases = [a.case for a, _ in pairs]
    share = exact_share(int(same[:, 0].sum()), len(pairs))
    if share.value not in (0.0, 1.0):  # resamples of what is all alike have no spread
        low, high = interval_over(same, cases, lambda total: float(total[0] / total[1]), resamples)
        share = replace(share, low=low, high=high)
    kappa = cohen_kappa(
        [a.answer for a, _ in pairs], [b.answer for _, b in pairs], cases, resamples
    )
    return Repeats(share, kappa)


def side_share(ratings: Sequence[Rating]) -> Estimate:
    """Share of the answers that chose the left one of two, with its exact interval.

    Sides are drawn by chance, so a rater without a bias has one half.
    """
    places = [one.place for one in ratings if len(one.shown) == 2]
    chosen = [place for place in places if place is not None]
    return exact_share(chosen.count(0), len(chosen))


def gold_accuracy(ratings: Sequence[Rating]) -> Estimate:
    """Share of known questions that were answered rightly, with its exact interval.

    Questions on which the rater did not decide (a tie, can't tell) are left out.
    """
    known = [one for one in ratings if one.right is not None and not isinstance(one.answer, str)]
    return exact_share(sum(one.answer == one.right for one in known), len(known))


def vote_times(ratings: Sequence[Rating]) -> VoteTimes:
    """Median and quartiles of the seconds per vote."""
    seconds = np.array([one.seconds for one in ratings if one.seconds is not None])
    if not len(seconds):
        return VoteTimes(math.nan, math.nan, math.nan, 0, 0)
    lower, median, upper = np.percentile(seconds, (25, 50, 75)).tolist()
    return VoteTimes(median, lower, upper, int((seconds < TOO_FAST).sum()), len(seconds))
