"""Slices of a series in the order of their positions, and the checks that they make up a volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from segpref.data.dicom_headers import Header, Plane
from segpref.types import SegprefError

__all__ = ["Slice", "directions", "doubled", "sorted_slices"]

Slice = tuple[Header, Plane]


def directions(plane: Plane) -> tuple[Float[np.ndarray, "3"], ...]:
    """Of a row, of a column, and of the normal: unit vectors in LPS."""
    row, column = np.array(plane.orientation, dtype=float).reshape(2, 3)
    return row, column, np.cross(row, column)


def sorted_slices(name: Path, slices: Sequence[Slice]) -> list[Slice]:
    """The slices by their position along the normal.

    Raises:
        SegprefError: one without a place, of another size, pixel spacing or orientation; one that is
            missing or doubled.
    """
    first_header, first = _usual(slices)
    for header, plane in slices:
        if plane.position is None or plane.orientation is None:
            missing = (
                "ImagePositionPatient" if plane.position is None else "ImageOrientationPatient"
            )
            raise SegprefError(
                f"{header.path} does not say where its slice lies ({missing}): export the series "
                "again, or move the file out of the folder"
            )
        same = (header.rows, header.columns) == (first_header.rows, first_header.columns) and all(
            np.allclose(getattr(plane, tag) or 0, getattr(first, tag) or 0, atol=1e-3)
            for tag in ("orientation", "spacing")
        )
        if not same:
            raise SegprefError(
                f"{header.path} differs from {first_header.path.name} in size, pixel spacing or "
                "orientation: move it out of the folder"
            )
    row, column, normal = directions(first)
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=1e-3):
        raise SegprefError(
            f"{first_header.path} states directions (ImageOrientationPatient) that are not at right "
            "angles and of length 1: export the series again"
        )
    heights = np.array([np.array(plane.position) @ normal for _, plane in slices])
    order = np.argsort(heights, kind="stable")
    ordered = [slices[place] for place in order]
    _check_gaps(name, ordered, heights[order])
    return ordered


def _usual(slices: Sequence[Slice]) -> Slice:
    """A slice of the size and orientation that most have, so that messages name the odd ones."""

    def form(one: Slice) -> tuple[object, ...]:
        turns = tuple(round(number, 2) for number in one[1].orientation or ())
        return one[0].rows, one[0].columns, turns

    counts = Counter(form(one) for one in slices)
    return max(slices, key=lambda one: counts[form(one)])


def _check_gaps(name: Path, slices: Sequence[Slice], heights: Float[np.ndarray, " n"]) -> None:
    gaps = np.diff(heights)
    if len(gaps) == 0:
        return
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])  # the lower median: a hole only widens gaps
    closest, widest = int(gaps.argmin()), int(gaps.argmax())
    if gaps[closest] < 1e-3:
        raise doubled(name, slices[closest], slices[closest + 1])
    if max(gaps[widest] - usual, usual - gaps[closest]) > 0.1 * usual + 1e-2:
        raise SegprefError(
            f"{name} misses a slice or has uneven ones ({gaps[widest]:.4g} mm between "
            f"{slices[widest][0].path.name} and {slices[widest + 1][0].path.name}, usually "
            f"{usual:.4g} mm): add the missing files, or resample the series to even slices"
        )


def doubled(path: Path, one: Slice, other: Slice) -> SegprefError:
    """The error about two slices at one position."""
    if one[0].path == other[0].path:
        return SegprefError(
            f"{one[0].path} holds two frames at one position ({one[1].frame} and {other[1].frame}), as "
            "where it has several times or echoes: export each as a series of its own"
        )
    return SegprefError(
        f"{path} holds two slices at one position ({one[0].path.name} and {other[0].path.name}): move "
        "one out of the folder"
    )
