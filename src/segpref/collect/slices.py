"""Slices of packed images and masks as they are shown on the screen."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

__all__ = ["Axis", "slice_count", "slice_of"]

Axis = Literal["axial", "coronal", "sagittal"]


def slice_of(volume: np.ndarray, axis: Axis, index: int) -> np.ndarray:
    """One slice as it is shown, its first value at the top left.

    Axial slices have the front at the top, the others the head; the patient's right is on the left, and
    sagittal slices have the front on the left (radiological convention).

    Args:
        volume: ``[z, y, x, ...]``, indices growing to head, back and left; of a picture z is 1.
        axis: along which it is cut; ``axial`` of a picture.
        index: which slice, from 0 to :func:`slice_count` - 1.
    """
    cuts: dict[str, Any] = {
        "axial": np.s_[index],
        "coronal": np.s_[::-1, index],
        "sagittal": np.s_[::-1, :, index],
    }
    shown: np.ndarray = volume[cuts[axis]]
    return shown


def slice_count(shape: tuple[int, int, int], axis: Axis) -> int:
    """How many slices a volume ``(z, y, x)`` has along an axis."""
    return shape[("axial", "coronal", "sagittal").index(axis)]
