"""Crops around structures, since most of an image is background that no edit touches."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Window", "absolute", "bounding_box", "grown", "relative"]

Window = tuple[slice, ...]
"""A crop of the image: one slice per spatial axis."""


def bounding_box(mask: np.ndarray) -> Window | None:
    """The smallest window that holds all that is not 0, or None where everything is."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        if not len(occupied):
            return None
        side = slice(int(occupied[0]), int(occupied[-1]) + 1)
        box.append(side)
        mask = mask[(*(slice(None),) * axis, side)]  # what is left out is empty
    return tuple(box)


def grown(
    box: Window, shape: tuple[int, ...], spacing: tuple[float, ...], reach: float = 0.0
) -> Window:
    """A box with everything within ``reach`` of it, at least one pixel, inside the image."""
    steps = [max(1, math.ceil(reach / size)) for size in spacing]
    return tuple(
        slice(max(0, side.start - more), min(length, side.stop + more))
        for side, length, more in zip(box, shape, steps, strict=True)
    )


def relative(window: Window, outer: Window) -> Window:
    """A window of the image as one of the crop ``outer``, which holds it."""
    return tuple(
        slice(side.start - whole.start, side.stop - whole.start)
        for side, whole in zip(window, outer, strict=True)
    )


def absolute(window: Window, outer: Window) -> Window:
    """A window of the crop ``outer`` as one of the image."""
    return tuple(
        slice(whole.start + side.start, whole.start + side.stop)
        for side, whole in zip(window, outer, strict=True)
    )
