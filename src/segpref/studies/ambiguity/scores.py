"""Scores of samples, averaged over seeds, with bootstrap intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, UInt8

from segpref.late import late

__all__ = [
    "COLUMNS",
    "SAME_SIZE",
    "Gain",
    "gain",
    "ged_at",
    "irregularity",
    "mean_over_images",
    "pairs_of_a_size",
    "trade",
]

optimize = late("scipy.optimize")

COLUMNS: Mapping[str, str] = {
    "Avg. Dice": "average_dice",
    "Avg. IoU": "average_iou",
    "GED": "ged",
    "CI": "ci",
    "D_max": "d_max",
    "S_c": "combined_sensitivity",
    "DA": "diversity_agreement",
}
"""Columns of TDG-DiffDPO, Tables 3 and 6, and their names in
:class:`~segpref.metrics.ambiguity.AmbiguityScores`."""

SAME_SIZE = 0.1
"""By how much the larger of two masks of a size may exceed the smaller."""

_RESAMPLES = 5000


@dataclass(frozen=True, slots=True)
class Gain:
    """A mean over images, such as a difference of two models with seeds averaged inside each image.

    Args:
        mean: of the images, as in the tables.
        low: lower end of its 95 % bootstrap interval over patients.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite([self.low, self.high]).all():
            return f"{self.mean:+.4f} (no interval: too few patients)"
        return f"{self.mean:+.4f} (95 % interval over patients {self.low:+.4f} to {self.high:+.4f})"


def mean_over_images(values: Float[np.ndarray, " image"], patients: Sequence[str]) -> Gain:
    """Mean over the images that have a value; the interval draws patients with all their images.

    The interval is NaN for fewer than two patients, the mean where no image has a value.
    """
    known = ~np.isnan(values)
    if not known.any():
        return Gain(np.nan, np.nan, np.nan)
    _, places = np.unique(np.asarray(patients)[known], return_inverse=True)
    sums, counts = np.bincount(places, values[known]), np.bincount(places)
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Gain(mean, np.nan, np.nan)
    drawn = np.random.default_rng(0).integers(len(sums), size=(_RESAMPLES, len(sums)))
    again = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(again, (2.5, 97.5))
    return Gain(mean, float(low), float(high))


def gain(
    ours: Sequence[Float[np.ndarray, " image"]],
    theirs: Sequence[Float[np.ndarray, " image"]],
    patients: Sequence[str],
) -> Gain:
    """Ours minus theirs, from the values of every seed."""
    return mean_over_images(np.mean(ours, axis=0) - np.mean(theirs, axis=0), patients)


def ged_at(level: float, dice: Float[np.ndarray, " w"], ged: Float[np.ndarray, " w"]) -> float:
    """GED at which the curve over w, from 0 on, first reaches an Average Dice; NaN where it never does.

    Far beyond w = 1 a curve may come back to the same Dice at a higher price: who turns the knob stops
    before.
    """
    for k in range(len(dice) - 1):
        low, high = sorted((dice[k], dice[k + 1]))
        if low <= level <= high:
            share = 0.0 if low == high else (level - dice[k]) / (dice[k + 1] - dice[k])
            return float(ged[k] + share * (ged[k + 1] - ged[k]))
    return float("nan")


def trade(
    ours: tuple[Float[np.ndarray, "w image"], Float[np.ndarray, "w image"]],
    theirs: tuple[Float[np.ndarray, " image"], Float[np.ndarray, " image"]],
    patients: Sequence[str],
) -> Gain:
    """By how much GED differs at the same Average Dice.

    Args:
        ours: Average Dice and GED of a method over its knob.
        theirs: those of the model that it is compared with.
        patients: of the images.
    """
    names, places = np.unique(np.asarray(patients), return_inverse=True)
    per_image = np.stack([*ours[0], *ours[1], *theirs])
    sums = np.stack([np.bincount(places, values, len(names)) for values in per_image])
    counts = np.bincount(places, minlength=len(names))

    def change(drawn: Int64[np.ndarray, " patient"]) -> float:
        mean = sums[:, drawn].sum(axis=1) / counts[drawn].sum()
        dice, ged = mean[: len(ours[0])], mean[len(ours[0]) : -2]
        return ged_at(mean[-2], dice, ged) - float(mean[-1])

    rng = np.random.default_rng(0)
    again = [change(rng.integers(len(names), size=len(names))) for _ in range(_RESAMPLES)]
    # A curve that does not reach the level in many draws has no interval.
    reached = np.array(again)[~np.isnan(again)]
    ends = (
        np.percentile(reached, (2.5, 97.5)) if len(reached) > 0.975 * _RESAMPLES else (np.nan,) * 2
    )
    return Gain(change(np.arange(len(names))), float(ends[0]), float(ends[1]))


def irregularity(masks: UInt8[np.ndarray, "*n row column"]) -> Float[np.ndarray, "*n"]:
    """Boundary irregularity ``P^2 / (4 pi A)``: 1 for a disc, more for a lobed or spiculated outline.

    The perimeter is Crofton's with lines in four directions, ``pi / 8 (c_0 + c_90 + (c_45 + c_135) /
    sqrt 2)`` with c counting changes along all lines of a direction. NaN for an empty mask.
    """
    padded = np.pad(masks, [(0, 0)] * (masks.ndim - 2) + [(1, 1), (1, 1)]).astype(bool)
    straight = (padded[..., 1:, :] != padded[..., :-1, :]).sum((-2, -1))
    straight = straight + (padded[..., 1:] != padded[..., :-1]).sum((-2, -1))
    slanted = (padded[..., 1:, 1:] != padded[..., :-1, :-1]).sum((-2, -1))
    slanted = slanted + (padded[..., 1:, :-1] != padded[..., :-1, 1:]).sum((-2, -1))
    perimeter = np.pi / 8 * (straight + slanted / np.sqrt(2))
    area = masks.sum((-2, -1), dtype=np.int64)
    return np.where(area > 0, perimeter**2 / (4 * np.pi * np.maximum(area, 1)), np.nan)


def pairs_of_a_size(
    ours: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " m"]
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
    """Masks matched one to one by area, as many as there are pairs of a size.

    Args:
        ours: areas.
        theirs: areas. Empty masks have no pair.

    Returns:
        Places in either, of the pairs whose larger mask is at most ``SAME_SIZE`` above the smaller.
    """
    known = [np.flatnonzero(areas > 0) for areas in (ours, theirs)]
    mine, other = ours[known[0]][:, None], theirs[known[1]][None]
    apart = np.maximum(mine, other) / np.minimum(mine, other)
    # Too far apart costs the same however far, and more than all pairs of a size together.
    cost = np.where(apart <= 1 + SAME_SIZE, apart - 1, len(mine) + 1.0)
    rows, columns = optimize.linear_sum_assignment(cost)
    close = apart[rows, columns] <= 1 + SAME_SIZE
    return known[0][rows[close]], known[1][columns[close]]
