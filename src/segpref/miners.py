"""From a judge's scores to preference pairs (Sec. 3.2).

A miner looks at the scores of one field of one slate. A candidate with the score NaN is in no pair:
the judge abstains. A loser scores at least ``min_gap`` below its winner, and of equal scores the
first candidate ranks higher, so that a tie for the top goes to the anchor if it takes part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from segpref.metrics.slates import NEAR_TIE, opinion
from segpref.types import Miner, Pairs, SegprefError

__all__ = ["Extremes", "Mined", "RandomPair", "Threshold", "TopVsBase", "TopVsRandom", "mine"]

# 0.6 - 0.5 is less than 0.1 in floating point; a gap that is meant to be there must count.
_ROUNDING = 1e-9


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


@dataclass(frozen=True, slots=True)
class RandomPair:
    """A candidate drawn at random against one drawn from those that rank below it.

    The winner is drawn from those that have somebody below them, so that every slate that can give
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


@dataclass(frozen=True, slots=True)
class Mined:
    """The pairs of a batch, and what gave none.

    Args:
        pairs: sorted by image, then by field.
        fields: how many fields were looked at, over all images.
        skipped: how many of them gave no pair, by reason: ``abstained``, ``zero`` or ``tied``
            (:func:`segpref.metrics.opinion`), or ``undecided`` where the miner found no pair.
    """

    pairs: Pairs
    fields: int
    skipped: Mapping[str, int]


def mine(
    miner: Miner,
    scores: Sequence[Float[np.ndarray, "K field"]],
    rngs: Sequence[np.random.Generator],
) -> Mined:
    """Mine the slates of a batch, each with its own source of randomness.

    A field whose scores are all 0, all tied or all NaN is skipped and counted.

    Raises:
        SegprefError: scores are infinite or of the wrong shape, or the miner's pairs contradict
            the scores.
    """
    skipped = Counter[str](dict.fromkeys(("abstained", "zero", "tied", "undecided"), 0))
    found: list[tuple[int, int, int, int]] = []
    gaps: list[float] = []
    for case, (slate, rng) in enumerate(zip(scores, rngs, strict=True)):
        if slate.ndim != 2 or np.isinf(slate).any():
            raise SegprefError(
                f"the judge's scores of image {case} of the batch must be finite numbers (or NaN to "
                "abstain), one per candidate and field; mend the judge's score method"
            )
        for field, said in enumerate(slate.T):
            told = opinion(said)
            if told != "usable":
                skipped[told] += 1
                continue
            rows = miner(said, rng)
            if not len(rows):
                skipped["undecided"] += 1
                continue
            gap = said[rows[:, 0]] - said[rows[:, 1]]
            if not (gap > 0).all():
                raise SegprefError(
                    f"the miner {miner!r} returned a pair whose winner does not score above its "
                    "loser; mend the miner's __call__ method"
                )
            found += [(case, field, int(winner), int(loser)) for winner, loser in rows]
            gaps += gap.tolist()
    table = np.array(found, dtype=np.int64).reshape(-1, 4).T.copy()
    pairs = Pairs(table[0], table[1], table[2], table[3], np.array(gaps, dtype=np.float64))
    return Mined(pairs, fields=sum(slate.shape[1] for slate in scores), skipped=dict(skipped))


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
