"""Claims of better: paired over patients, with an interval, a test and every seed's sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segpref.report.comparison import (
    Comparison,
    Word,
    bootstrap_interval,
    compared,
    gains_by_patient,
)
from segpref.report.runs import LOW_IS_GOOD, Entries, Measure, Row, Run

__all__ = ["Difference", "bootstrap_interval", "difference", "measure_column"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Method minus other in a test measure, paired over patients.

    Args:
        method: which is claimed to be better.
        other: than which.
        measure: in what; ``assd`` is better when lower.
        mean: difference with seeds averaged inside each patient.
        low: lower end of the 95 % bootstrap interval over patients.
        high: upper end.
        seeds_better: how many seeds have a difference of the right sign.
        seeds: of how many.
        p_value: of the sign-flip test over patients.
        patients: how many.
    """

    method: str
    other: str
    measure: Measure
    mean: float
    low: float
    high: float
    seeds_better: int
    seeds: int
    p_value: float = math.nan
    patients: int = 0

    @property
    def word(self) -> Word:
        """The verdict: that of :class:`~segpref.report.comparison.Comparison`, and all seeds agree."""
        low, high = self.low, self.high
        if self.measure in LOW_IS_GOOD:
            low, high = -high, -low
        word = Comparison(self.mean, low, high, self.p_value, self.patients).word
        agreed = {"better": self.seeds, "worse": 0}.get(word, self.seeds_better)
        return word if agreed == self.seeds_better else "not shown"

    @property
    def better(self) -> bool:
        """Whether the word is better."""
        return self.word == "better"

    @property
    def told_seeds(self) -> str:
        """How many seeds agree; of one seed nothing can."""
        return "one seed" if self.seeds == 1 else f"{self.seeds_better} of {self.seeds}"


def difference(
    entries: Entries,
    method: str,
    other: str,
    measure: Measure = "iou",
    resamples: int = 10_000,
) -> Difference | None:
    """Paired bootstrap and sign-flip test over test patients, with seeds averaged inside each patient.

    Where only one of the two has a structure, the other was right not to draw it, and counts as 1 in
    IoU and Dice; distances are compared only where both have one.

    None where the two rows have no seed in common.
    """
    ours, theirs = entries[method], entries[other]
    shared = [(a, b) for a in ours for b in theirs if a.seed == b.seed]
    if not shared:
        return None
    gains = [_by_patient(a, b, measure) for a, b in shared]
    # Over the same volumes as the mean: two means of distances may miss other volumes.
    per_seed = [float(np.mean(list(gain.values()))) if gain else math.nan for gain in gains]
    if measure in LOW_IS_GOOD:
        per_seed = [-change for change in per_seed]
    patients = sorted(set().union(*gains))
    values = np.array(
        [np.mean([gain[name] for gain in gains if name in gain]) for name in patients]
    )
    found = compared(values, resamples)
    return Difference(
        method=method,
        other=other,
        measure=measure,
        mean=found.mean,
        low=found.low,
        high=found.high,
        seeds_better=sum(gain > 0 for gain in per_seed),
        seeds=len(per_seed),
        p_value=found.p_value,
        patients=found.patients,
    )


def measure_column(rows: Sequence[Row], measure: Measure) -> str:
    """The measure's column; that of a distance also names its unit."""
    return next((name for name in rows[0] if name.split("_")[0] == measure), measure)


def _by_patient(ours: Run, theirs: Run, measure: Measure) -> dict[str, float]:
    absent = math.nan if measure in LOW_IS_GOOD else 1.0
    return gains_by_patient(ours.test, theirs.test, measure_column(ours.test, measure), absent)
