"""How many more votes are worth asking for: widths of intervals against the number of votes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from segpref.preferences import Compared, Rating, bradley_terry, reliabilities

__all__ = ["Precision", "more_votes", "precision_of_models", "precision_of_raters"]

T = TypeVar("T")

SHARES = (0.25, 0.5, 0.75)
"""Of the images or patients, in the smaller sets of votes."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Half the width of a figure's 95 % interval, against the number of votes.

    Args:
        figure: what it is about.
        votes: numbers of votes that it was measured with; the last is all there are.
        half_widths: what was measured.
        scale: of the curve ``scale / sqrt(votes)`` through the last; NaN where nothing was measured.
        wanted: a half-width that is worth having.
        value: the figure itself, with all votes.
    """

    figure: str
    votes: tuple[int, ...]
    half_widths: tuple[float, ...]
    scale: float
    wanted: float
    value: float = field(default=math.nan)

    @property
    def now(self) -> float:
        """Half-width with all votes."""
        return self.half_widths[-1] if self.half_widths else math.nan

    def with_votes(self, votes: float) -> float:
        """Half-width that is expected of so many votes."""
        return self.scale / math.sqrt(votes)

    @property
    def needed(self) -> int | None:
        """Votes at which the half-width is expected to be what is wanted; None where unknown."""
        if not math.isfinite(self.scale):
            return None
        return math.ceil((self.scale / self.wanted) ** 2)


def precision_of_raters(
    ratings: Sequence[Rating], *, wanted: float = 0.05, draws: int = 3, resamples: int = 40
) -> Precision:
    """Of the raters' mean flip rate, over sets of images."""

    def measured(drawn: Sequence[Rating]) -> tuple[float, float]:
        found = [one.flip_rate for one in reliabilities(drawn, resamples=resamples).values()]
        known = [(one.value, (one.high - one.low) / 2) for one in found if one.high > one.low]
        if not known:
            return math.nan, math.nan
        value, width = np.mean(known, axis=0).tolist()
        return value, width

    return _measured("raters' flip rate", ratings, lambda one: one.case, measured, wanted, draws)


def precision_of_models(
    compared: Sequence[Compared],
    first: str,
    second: str,
    *,
    wanted: float = 0.05,
    draws: int = 3,
    resamples: int = 60,
) -> Precision:
    """Of how often the first is preferred to the second where it is no tie, over sets of patients.

    Args:
        compared: all comparisons, also with others.
        first: a model or a proposal family.
        second: another one.
        wanted: a half-width that is worth having.
        draws: how many smaller sets of each size.
        resamples: how often patients are drawn for each interval.
    """

    def measured(drawn: Sequence[Compared]) -> tuple[float, float]:
        names = {name for one in drawn for name in (one.first, one.second)}
        groups = sorted({one.group for one in drawn})
        if not {first, second} <= names or len(groups) < 2:
            return math.nan, math.nan
        rng = np.random.default_rng(0)
        by_group: dict[str, list[Compared]] = {name: [] for name in groups}
        for one in drawn:
            by_group[one.group].append(one)
        chances = []
        for _ in range(resamples):
            picked = rng.choice(len(groups), len(groups))
            sample = [one for place in picked for one in by_group[groups[place]]]
            fit = bradley_terry(sample, resamples=0)
            if {first, second} <= set(fit.strength):
                chances.append(fit.chance(first, second))
        if len(chances) < resamples / 2:
            return math.nan, math.nan
        whole = bradley_terry(drawn, resamples=0)
        if whole.statement:  # held finite by a prior, whose width says nothing
            return math.nan, math.nan
        low, high = np.percentile(chances, (2.5, 97.5)).tolist()
        return whole.chance(first, second), (high - low) / 2

    name = f"share preferring {first} to {second}"
    return _measured(name, compared, lambda one: one.group, measured, wanted, draws)


def more_votes(found: Sequence[Precision]) -> str:
    """What more votes would bring, in sentences; empty where nothing was measured."""
    said = []
    for one in found:
        if one.needed is None or not one.votes:
            continue
        have = one.votes[-1]
        name = one.figure[0].upper() + one.figure[1:]
        told = f"{name}: {one.value:.0%} ± {one.now:.0%} after {have} votes"
        if one.needed <= have:
            said.append(f"{told}; more votes are not needed for this.")
        else:
            said.append(
                f"{told}; about {_rounded(one.needed - have)} more would bring it to "
                f"± {one.wanted:.0%}, twice as many as now to ± {one.with_votes(2 * have):.0%}."
            )
    return " ".join(said)


def _measured(
    figure: str,
    records: Sequence[T],
    group_of: Callable[[T], str],
    measure: Callable[[Sequence[T]], tuple[float, float]],
    wanted: float,
    draws: int,
) -> Precision:
    groups = sorted({group_of(one) for one in records})
    rng = np.random.default_rng(0)
    points: list[tuple[int, float]] = []
    for share in SHARES:
        size = round(share * len(groups))
        if size < 2:
            continue
        widths, counts = [], []
        for _ in range(draws):
            picked = {groups[i] for i in rng.choice(len(groups), size, replace=False)}
            drawn = [one for one in records if group_of(one) in picked]
            width = measure(drawn)[1]
            if math.isfinite(width):
                widths.append(width)
                counts.append(len(drawn))
        if widths:
            points.append((round(float(np.mean(counts))), float(np.mean(widths))))
    value, width = measure(records) if records else (math.nan, math.nan)
    if math.isfinite(width):
        points.append((len(records), width))
    # Through what all votes give: with few votes the prior of a rater's flip rate narrows intervals.
    scale = width * math.sqrt(len(records)) if math.isfinite(width) else math.nan
    return Precision(
        figure,
        tuple(votes for votes, _ in points),
        tuple(width for _, width in points),
        scale,
        wanted,
        value,
    )


def _rounded(count: int) -> int:
    """To two digits: no more is known."""
    step: int = 10 ** max(len(str(count)) - 2, 0)
    return math.ceil(count / step) * step
