"""Claims of better: paired over patients, with an interval and every seed's sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

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
    """

    method: str
    other: str
    measure: Measure
    mean: float
    low: float
    high: float
    seeds_better: int
    seeds: int

    @property
    def better(self) -> bool:
        """Whether the interval is on the right side of zero and all seeds agree."""
        right = self.high < 0 if self.measure in LOW_IS_GOOD else self.low > 0
        return right and self.seeds_better == self.seeds


def difference(
    entries: Entries,
    method: str,
    other: str,
    measure: Measure = "iou",
    resamples: int = 10_000,
) -> Difference | None:
    """Paired bootstrap over test patients, with seeds averaged inside each patient.

    Where only one of the two has a structure, the other was right not to draw it, and counts as 1 in
    IoU and Dice; distances are compared only where both have one.

    None where the two rows have no seed in common.
    """
    ours, theirs = entries[method], entries[other]
    shared = [(a, b) for a in ours for b in theirs if a.seed == b.seed]
    if not shared:
        return None
    gains = [_by_patient(a, b, measure) for a, b in shared]
    # Over the very volumes that the mean is over: two means of distances may miss other volumes.
    per_seed = [float(np.mean(list(gain.values()))) if gain else math.nan for gain in gains]
    if measure in LOW_IS_GOOD:
        per_seed = [-change for change in per_seed]
    patients = sorted(set().union(*gains))
    values = np.array(
        [np.mean([gain[name] for gain in gains if name in gain]) for name in patients]
    )
    low, high = bootstrap_interval(values, resamples)
    return Difference(
        method=method,
        other=other,
        measure=measure,
        mean=float(values.mean()),
        low=low,
        high=high,
        seeds_better=sum(gain > 0 for gain in per_seed),
        seeds=len(per_seed),
    )


def bootstrap_interval(
    values: Float[np.ndarray, " patient"], resamples: int = 10_000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; NaN for fewer than two patients."""
    if len(values) < 2:
        return math.nan, math.nan  # one patient says nothing about others
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0)
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def measure_column(rows: Sequence[Row], measure: Measure) -> str:
    """The measure's column; that of a distance also names its unit."""
    return next((name for name in rows[0] if name.split("_")[0] == measure), measure)


def _by_patient(ours: Run, theirs: Run, measure: Measure) -> dict[str, float]:
    column, absent = measure_column(ours.test, measure), math.nan if measure in LOW_IS_GOOD else 1.0
    gathered: dict[str, list[float]] = {}
    for a, b in zip(ours.test, theirs.test, strict=True):
        assert (a["volume"], a["structure"]) == (b["volume"], b["structure"])
        # Absent for one method only: it was right, the other drew what is not there.
        pair = [float(row.get(column, math.nan)) for row in (a, b)]
        if not any(math.isfinite(value) for value in pair):
            continue
        first, second = (value if math.isfinite(value) else absent for value in pair)
        if math.isfinite(first - second):
            gathered.setdefault(str(a["patient"]), []).append(first - second)
    return {name: float(np.mean(values)) for name, values in gathered.items()}
