"""How far automatic judges agree with raters, and which of base and tuned raters prefer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segpref.collect import Mask, VoteRow
from segpref.late import late
from segpref.preferences import Estimate, exact_share, interval_over
from segpref.report.comparison import FEWEST_PATIENTS

__all__ = [
    "ALL_STRUCTURES",
    "JudgeFigures",
    "Preferred",
    "Scores",
    "accepted",
    "judge_figures",
    "preferred",
]

stats = late("scipy.stats")

Scores = Mapping[str, Mapping[str, float]]
"""Scores of masks, by their ids, of each judge, by its name."""

ALL_STRUCTURES = "all structures"
STORED = "the judge of the study"
"""Name of the judge whose scores were stored when the study was made."""


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    """How far a judge's scores agree with raters.

    Args:
        agreement: share of the votes that chose a better one in which the judge gives it the higher
            score, with an interval over patients; equal scores are left out.
        right: the share of pairs that the judge orders rightly, if raters err at the rate that is
            estimated of them, and not where the judge does.
    """

    judge: str
    structure: str
    agreement: Estimate
    right: Estimate


@dataclass(frozen=True, slots=True)
class Preferred:
    """How often the tuned model's mask was preferred to the base's; ties are apart.

    Args:
        share: of the answers that preferred one, with the exact interval, as if answers were
            independent.
        by_patient: the same share with an interval over patients.
        p_value: of the exact two-sided test of one half.
        patients: how many.
        ties: how many answers were ties.
        both_bad: how many found both bad.
        cant_tell: how many could not tell.
    """

    share: Estimate
    by_patient: Estimate
    p_value: float
    patients: int
    ties: int
    both_bad: int
    cant_tell: int

    @property
    def word(self) -> str:
        """``better`` or ``worse`` where both intervals agree on enough patients, else ``not shown``."""
        if self.patients < FEWEST_PATIENTS:
            return "not shown"
        if min(self.share.low, self.by_patient.low) > 0.5:
            return "better"
        return "worse" if max(self.share.high, self.by_patient.high) < 0.5 else "not shown"


def judge_figures(
    rows: Sequence[VoteRow], scores: Scores, rates: Mapping[str, float], resamples: int
) -> list[JudgeFigures]:
    """Agreement of each judge with the raters, over all structures and of each.

    Args:
        rows: votes that count.
        scores: of judges besides the one whose scores are stored.
        rates: flip rate of each rater.
        resamples: how often patients are drawn for intervals.
    """
    stored = {mask.id: mask.score for row in rows for mask in row.masks if mask.score is not None}
    given = {**({STORED: stored} if stored else {}), **scores}
    first = [row for row in rows if row.repeat_of is None and row.pair.use == "normal"]
    found = []
    for judge, known in given.items():
        parts = [(row, part) for row in first if (part := _agreed(row, known)) is not None]
        structures = sorted({row.pair.structure or ALL_STRUCTURES for row, _ in parts})
        whole = [None, *structures] if len(structures) > 1 else [None]
        for name in whole:
            own = [
                (row, part) for row, part in parts
                if name is None or (row.pair.structure or ALL_STRUCTURES) == name
            ]  # fmt: skip
            if own:
                share = _share_over(
                    [part for _, part in own], [row.item.patient for row, _ in own], resamples
                )
                rate = float(np.mean([rates.get(row.rater, 0.0) for row, _ in own]))
                told = name or (structures[0] if len(structures) == 1 else ALL_STRUCTURES)
                found.append(JudgeFigures(judge, told, share, _right(share, rate)))
    return found


def _agreed(row: VoteRow, scores: Mapping[str, float]) -> tuple[int, int] | None:
    """How many of the comparisons in a vote the judge orders in the same way, and of how many."""
    if row.chosen is None or len(row.masks) < 2:
        return None
    best = scores.get(row.masks[row.chosen].id, math.nan)
    gaps = [
        best - scores.get(mask.id, math.nan)
        for place, mask in enumerate(row.masks)
        if place != row.chosen
    ]
    known = [gap for gap in gaps if not math.isnan(gap) and gap != 0]
    return (sum(gap > 0 for gap in known), len(known)) if known else None


def _share_over(
    parts: Sequence[tuple[int, int]], groups: Sequence[str], resamples: int
) -> Estimate:
    sums = np.array(parts, dtype=float)
    total = sums.sum(axis=0)
    low, high = interval_over(sums, groups, lambda one: float(one[0] / one[1]), resamples)
    return Estimate(float(total[0] / total[1]), low, high, int(total[1]))


def _right(agreement: Estimate, rate: float) -> Estimate:
    """Agreement ``a = r (1 - e) + (1 - r) e`` solved for ``r``."""
    if rate > 0.45:
        return Estimate(math.nan, math.nan, math.nan, agreement.count)

    value, low, high = (
        one if math.isnan(one) else min(max((one - rate) / (1 - 2 * rate), 0.0), 1.0)
        for one in (agreement.value, agreement.low, agreement.high)
    )
    return Estimate(value, low, high, agreement.count)


def preferred(rows: Sequence[VoteRow], tuned: str | None, resamples: int) -> Preferred:
    """How often the tuned model was preferred to the base.

    Args:
        rows: votes on base or tuned that count.
        tuned: digest of the tuned model; masks say so by their family where None.
        resamples: how often patients are drawn for the interval.
    """
    first = [row for row in rows if row.repeat_of is None and row.pair.use == "normal"]
    decided = [row for row in first if row.chosen is not None]
    wins = [
        (int(_is_tuned(row.masks[row.chosen], tuned)), 1)
        for row in decided
        if row.chosen is not None
    ]
    count = sum(one for one, _ in wins)
    share = exact_share(count, len(wins))
    patients = [row.item.patient for row in decided]
    over = _share_over(wins, patients, resamples) if wins else share
    p = float(stats.binomtest(count, len(wins)).pvalue) if wins else math.nan
    said = Counter(row.choice for row in first)
    return Preferred(
        share, over, p, len(set(patients)), said["tie"], said["both-bad"], said["cant-tell"]
    )


def _is_tuned(mask: Mask, tuned: str | None) -> bool:
    return mask.model == tuned if tuned else mask.family == "tuned"


def accepted(rows: Sequence[VoteRow]) -> Estimate:
    """Share of the masks that were accepted, of those accepted or rejected."""
    said = Counter(row.choice for row in rows if row.repeat_of is None and row.pair.use == "normal")
    return exact_share(said["accept"], said["accept"] + said["reject"])
