"""How far raters agree beyond chance: Krippendorff's alpha, Fleiss' and Cohen's kappa, with intervals.

All three are 1 where answers agree and 0 where they agree as often as by chance. Intervals are
percentile bootstrap intervals over groups of units, such as all questions about one image.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from segpref.preferences.rating import RESAMPLES, Estimate, interval_over
from segpref.types import SegprefError

__all__ = ["cohen_kappa", "fleiss_kappa", "krippendorff_alpha"]

Level = Literal["nominal", "ordinal"]


def krippendorff_alpha(
    answers: Float[np.ndarray, "rater unit"],
    level: Level = "nominal",
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Krippendorff's alpha, ``1 - D_o / D_e``; raters may have left units out.

    ``D_o`` and ``D_e`` are the observed and expected mean difference of two answers to one unit, 0 or 1
    (nominal) or ``(sum_{g=c..k} n_g - (n_c + n_k) / 2)^2`` (ordinal), as in Krippendorff, *Computing
    Krippendorff's alpha-reliability* (2011).

    Args:
        answers: numbers of categories, in their order where they are ordinal; NaN where a rater gave
            none. Units with fewer than two answers do not count.
        level: of measurement.
        groups: what is drawn for the interval, such as the image of each unit; the units where None.
        resamples: how often; 0 gives no interval.

    Returns:
        The estimate; its count is of the units that count. NaN where there are none, or where all
        answers are the same, which leaves nothing to agree on.
    """
    table = _two_dimensional(answers, "answers")
    values = np.unique(table[~np.isnan(table)])
    counts = np.stack([(table == one).sum(axis=0) for one in values], axis=1).astype(float) if len(
        values
    ) else np.zeros((table.shape[1], 1))  # fmt: skip
    several = counts.sum(axis=1) >= 2
    names = np.arange(len(counts)).tolist() if groups is None else list(groups)
    _as_many(names, len(counts))
    kept, names = counts[several], [name for name, one in zip(names, several, strict=True) if one]
    if not len(kept):
        return Estimate(math.nan, math.nan, math.nan, 0)
    pairs = kept[:, :, None] * kept[:, None, :]
    index = np.arange(kept.shape[1])
    pairs[:, index, index] -= kept
    pairs /= kept.sum(axis=1)[:, None, None] - 1

    def alpha(matrix: Float[np.ndarray, "category category"]) -> float:
        total = matrix.sum(axis=1)
        apart = _apart(total, level)
        n = total.sum()
        expected = (np.outer(total, total) * apart).sum() / (n - 1)
        return float(1 - (matrix * apart).sum() / expected) if expected > 0 else math.nan

    low, high = interval_over(pairs, names, alpha, resamples) if resamples else (math.nan,) * 2
    return Estimate(alpha(pairs.sum(axis=0)), low, high, len(kept))


def fleiss_kappa(
    counts: Float[np.ndarray, "unit category"],
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Fleiss' kappa (1971) of units that were all answered by equally many raters, at least 2.

    Args:
        counts: how many raters chose each category.
        groups: as in :func:`krippendorff_alpha`.
        resamples: as there.

    Returns:
        The estimate; NaN where there are no units, or one category alone was chosen.

    Raises:
        SegprefError: units were answered by different numbers of raters, or by fewer than 2.
    """
    table = _two_dimensional(counts, "counts")
    names = np.arange(len(table)).tolist() if groups is None else list(groups)
    _as_many(names, len(table))
    if not len(table):
        return Estimate(math.nan, math.nan, math.nan, 0)
    raters = table.sum(axis=1)
    if raters.min() < 2 or raters.min() != raters.max():
        raise SegprefError(
            "Fleiss' kappa needs units that were all answered by equally many raters, at least 2: "
            "leave the others out, or use Krippendorff's alpha"
        )
    n = raters[0]
    agreed = (table * (table - 1)).sum(axis=1) / (n * (n - 1))
    parts = np.column_stack([np.ones(len(table)), agreed, table])

    def kappa(summed: Float[np.ndarray, " part"]) -> float:
        shares = summed[2:] / (summed[0] * n)
        return _beyond(summed[1] / summed[0], float((shares**2).sum()))

    low, high = interval_over(parts, names, kappa, resamples) if resamples else (math.nan,) * 2
    return Estimate(kappa(parts.sum(axis=0)), low, high, len(table))


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Cohen's kappa (1960) of two raters, or of one rater at two times, without weights.

    Args:
        first: the one's category of each unit.
        second: the other's.
        groups: as in :func:`krippendorff_alpha`.
        resamples: as there.

    Returns:
        The estimate; NaN where there are no units, or both always gave one and the same category.
    """
    _as_many(list(second), len(first))
    names = np.arange(len(first)).tolist() if groups is None else list(groups)
    _as_many(names, len(first))
    if not len(first):
        return Estimate(math.nan, math.nan, math.nan, 0)
    number = {name: i for i, name in enumerate(dict.fromkeys([*first, *second]))}
    parts = np.zeros((len(first), len(number), len(number)))
    for unit, (a, b) in enumerate(zip(first, second, strict=True)):
        parts[unit, number[a], number[b]] = 1

    def kappa(matrix: Float[np.ndarray, "category category"]) -> float:
        n = matrix.sum()
        chance = float((matrix.sum(axis=0) * matrix.sum(axis=1)).sum() / n**2)
        return _beyond(float(np.trace(matrix) / n), chance)

    low, high = interval_over(parts, names, kappa, resamples) if resamples else (math.nan,) * 2
    return Estimate(kappa(parts.sum(axis=0)), low, high, len(first))


def _beyond(observed: float, chance: float) -> float:
    return math.nan if chance >= 1 - 1e-12 else (observed - chance) / (1 - chance)


def _apart(total: Float[np.ndarray, " category"], level: Level) -> Float[np.ndarray, "c c"]:
    """Squared difference of each two categories."""
    if level == "nominal":
        return 1 - np.eye(len(total))
    # Between two categories lie all answers in between and half of their own.
    middle = np.cumsum(total) - total / 2
    apart: Float[np.ndarray, "c c"] = (middle[:, None] - middle[None, :]) ** 2
    return apart


def _two_dimensional(values: Float[np.ndarray, "a b"], name: str) -> Float[np.ndarray, "a b"]:
    table = np.asarray(values, dtype=float)
    if table.ndim != 2:
        raise SegprefError(f"{name} is a table with two axes, not {table.ndim}")
    return table


def _as_many(found: Sequence[Hashable], wanted: int) -> None:
    if len(found) != wanted:
        raise SegprefError(f"each of {wanted} units needs one value, and {len(found)} were given")
