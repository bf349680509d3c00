"""Three words for a comparison that is paired over patients: better, not shown, worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from segpref.late import late

__all__ = [
    "FEWEST_PATIENTS",
    "Comparison",
    "Word",
    "bootstrap_interval",
    "compared",
    "gains_by_patient",
]

stats = late("scipy.stats")

Word: TypeAlias = Literal["better", "not shown", "worse"]

FEWEST_PATIENTS = 6
"""With fewer patients nothing is shown: the exact sign-flip test of five can't reach p = 0.05."""

_LEVEL = 0.05
_EXACT = 13
"""Up to so many patients all ``2^n`` signs are tried."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much one model gains on another, paired over patients; more is better.

    Args:
        mean: mean gain.
        low: lower end of the 95 % bootstrap interval over patients.
        high: upper end.
        p_value: of the two-sided sign-flip test, exact for up to 13 patients: how often gains whose
            signs are drawn by chance have a mean at least as far from 0.
        patients: how many.
    """

    mean: float
    low: float
    high: float
    p_value: float
    patients: int

    @property
    def word(self) -> Word:
        """The verdict.

        ``better`` where the interval is above 0 and the test agrees, ``worse`` where the interval is
        below 0, otherwise ``not shown``; always that below :data:`FEWEST_PATIENTS`.
        """
        if self.patients < FEWEST_PATIENTS:
            return "not shown"
        if self.low > 0 and self.p_value < _LEVEL:
            return "better"
        return "worse" if self.high < 0 else "not shown"

    @property
    def in_words(self) -> str:
        """The figures in words."""
        if self.patients < 2:
            return f"{self.mean:+.3f} in {self.patients} patient{'' if self.patients == 1 else 's'}"
        return (
            f"{self.mean:+.3f} per patient (95 % interval {self.low:+.3f} to {self.high:+.3f}, "
            f"sign-flip test p = {self.p_value:.2g}, {self.patients} patients)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain figures with the word, for a JSON file; None for what is not known."""
        plain = {name: None if value != value else value for name, value in asdict(self).items()}
        return {"word": self.word, **plain}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Comparison:
        """From the figures of :meth:`as_dict`."""
        names = ("mean", "low", "high", "p_value")
        mean, low, high, p = (
            math.nan if plain[name] is None else float(plain[name]) for name in names
        )
        return cls(mean, low, high, p, int(plain["patients"]))


def compared(gains: Float[np.ndarray, " patient"], resamples: int = 10_000) -> Comparison:
    """Compare by the gain of every patient; NaN where there is none."""
    if not len(gains):
        return Comparison(math.nan, math.nan, math.nan, math.nan, 0)
    low, high = bootstrap_interval(gains, resamples)
    return Comparison(float(gains.mean()), low, high, _sign_flip(gains), len(gains))


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


def gains_by_patient(
    ours: Sequence[Mapping[str, str | float]],
    theirs: Sequence[Mapping[str, str | float]],
    column: str,
    absent: float = 1.0,
) -> dict[str, float]:
    """Mean over volumes and structures of ours minus theirs, for every patient.

    Args:
        ours: rows of :func:`~segpref.inference.evaluation.score_masks`.
        theirs: rows of the same volumes and structures.
        column: the score.
        absent: what counts for one of the two where only the other has a finite score: it was right
            not to draw what is not there. NaN leaves the structure out.
    """
    gathered: dict[str, list[float]] = {}
    for a, b in zip(ours, theirs, strict=True):
        assert (a["volume"], a["structure"]) == (b["volume"], b["structure"])
        pair = [float(row.get(column, math.nan)) for row in (a, b)]
        if not any(math.isfinite(value) for value in pair):
            continue
        first, second = (value if math.isfinite(value) else absent for value in pair)
        if math.isfinite(first - second):
            gathered.setdefault(str(a["patient"]), []).append(first - second)
    return {name: float(np.mean(values)) for name, values in gathered.items()}


def _sign_flip(gains: Float[np.ndarray, " patient"]) -> float:
    """Two-sided p-value of the sign-flip test of mean 0; NaN for fewer than two patients."""
    if len(gains) < 2:
        return math.nan
    exact = len(gains) <= _EXACT
    result = stats.permutation_test(
        (gains,), np.mean, permutation_type="samples", vectorized=True,
        n_resamples=2 ** len(gains) if exact else 20_000, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(result.pvalue)
