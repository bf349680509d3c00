"""Miners of single pairs (RN-DPO, Sec. 3.2).

A miner looks at the scores of one field of one slate. A candidate with the score NaN is in no pair:
the judge abstains. A loser scores at least ``min_gap`` below its winner, and of equal scores the
first candidate ranks higher, so that a tie for the top goes to the anchor if it takes part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from segpref.checking import checked
from segpref.metrics.slates import NEAR_TIE
from segpref.types import SegprefError

__all__ = ["Extremes", "RandomPair", "Threshold", "TopVsBase", "TopVsRandom"]

# 0.6 - 0.5 is less than 0.1 in floating point; a gap that is meant to be there must count.
_ROUNDING = 1e-9


@checked(min_gap={"least": 0})
@dataclass(frozen=True, slots=True)
class TopVsBase:
    """The top-ranked candidate against the anchor; no pair where they are the same.

    Args:
        min_gap: how far below its winner a loser must score.
    """

    min_gap: float = NEAR_TIE

    def __post_init__(self) -> None:
        _check_gaps(min_gap=self.min_gap)

    def __call__(
        self, scores: Float[np.ndarray, " K"], rng: np.random.Generator
    ) -> Int64[np.ndarray, "P 2"]:
        """One row (winner, loser), or none."""
        top = _top(scores)
        losers = _below(scores, top, self.min_gap)
        return _rows([(top, 0)] if 0 in losers else [])


@checked(min_gap={"least": 0})
@dataclass(frozen=True, slots=True)
class TopVsRandom:
    """The top-ranked candidate against lower-ranked ones drawn at random: the default miner.

    Args:
        count: how many losers to draw, without repeats; fewer where there are fewer.
        min_gap: how far below its winner a loser must score.
    """

    count: int = 1
    min_gap: float = NEAR_TIE

    def __post_init__(self) -> None:
        _check_gaps(min_gap=self.min_gap)
        _check_count(self.count)

    def __call__(
        self, scores: Float[np.ndarray, " K"], rng: np.random.Generator
    ) -> Int64[np.ndarray, "P 2"]:
        """Up to ``count`` rows (winner, loser)."""
        top = _top(scores)
        losers = _below(scores, top, self.min_gap)
        drawn = rng.choice(losers, size=min(self.count, len(losers)), replace=False)
        return _rows((top, loser) for loser in drawn)


@checked(min_gap={"least": 0})
@dataclass(frozen=True, slots=True)
class Threshold:
    """The top-ranked candidate against the first in rank that scores at least ``tau`` below it.

    Args:
        tau: margin between winner and loser.
        min_gap: how far below its winner a loser must score, should ``tau`` be less.
    """

    tau: float
    min_gap: float = NEAR_TIE

    def __post_init__(self) -> None:
        _check_gaps(tau=self.tau, min_gap=self.min_gap)

    def __call__(
        self, scores: Float[np.ndarray, " K"], rng: np.random.Generator
    ) -> Int64[np.ndarray, "P 2"]:
        """One row (winner, loser), or none."""
        top = _top(scores)
        losers = _below(scores, top, max(self.tau, self.min_gap))
        return _rows([(top, losers[scores[losers].argmax()])] if len(losers) else [])


@checked(min_gap={"least": 0})
@dataclass(frozen=True, slots=True)
class RandomPair:
    """A candidate drawn at random against one drawn from those that rank below it.

    The winner is drawn from those that have a candidate below them, so that every slate that can give
    a pair gives one.

    Args:
        count: how many pairs to draw; repeats are dropped.
        min_gap: how far below its winner a loser must score.
    """

    count: int = 1
    min_gap: float = NEAR_TIE

    def __post_init__(self) -> None:
        _check_gaps(min_gap=self.min_gap)
        _check_count(self.count)

    def __call__(
        self, scores: Float[np.ndarray, " K"], rng: np.random.Generator
    ) -> Int64[np.ndarray, "P 2"]:
        """Up to ``count`` rows (winner, loser)."""
        below = [_below(scores, winner, self.min_gap) for winner in range(len(scores))]
        winners = [winner for winner, losers in enumerate(below) if len(losers)]
        if not winners:
            return _rows([])
        drawn = rng.choice(winners, size=self.count)
        return _rows(dict.fromkeys((winner, rng.choice(below[winner])) for winner in drawn))


@checked(min_gap={"least": 0})
@dataclass(frozen=True, slots=True)
class Extremes:
    """The best candidate against the worst, if they are ``tau`` apart (MAPO, Eq. 4 and 5).

    Args:
        tau: margin between winner and loser.
        min_gap: how far below its winner a loser must score, should ``tau`` be less.
    """

    tau: float
    min_gap: float = NEAR_TIE

    def __post_init__(self) -> None:
        _check_gaps(tau=self.tau, min_gap=self.min_gap)

    def __call__(
        self, scores: Float[np.ndarray, " K"], rng: np.random.Generator
    ) -> Int64[np.ndarray, "P 2"]:
        """One row (winner, loser), or none."""
        top = _top(scores)
        losers = _below(scores, top, max(self.tau, self.min_gap))
        return _rows([(top, losers[scores[losers].argmin()])] if len(losers) else [])


def _top(scores: Float[np.ndarray, " K"]) -> int:
    return int(np.where(np.isnan(scores), -np.inf, scores).argmax())


def _below(
    scores: Float[np.ndarray, " K"], winner: int, gap: float
) -> Int64[np.ndarray, " losers"]:
    """Candidates that score at least ``gap`` below ``winner``; a comparison with NaN is false."""
    return np.flatnonzero(scores[winner] - scores >= gap - min(_ROUNDING, gap / 2))


def _rows(pairs: Iterable[tuple[int, int]]) -> Int64[np.ndarray, "P 2"]:
    return np.array(list(pairs), dtype=np.int64).reshape(-1, 2)


def _check_gaps(**gaps: float) -> None:
    for name, gap in gaps.items():
        if not 0 < gap < float("inf"):
            raise SegprefError(f"a miner's {name} must be a number above 0, not {gap}")


def _check_count(count: int) -> None:
    if count < 1:
        raise SegprefError(f"a miner's count of pairs must be at least 1, not {count}")
