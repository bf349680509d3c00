"""An image with what is known about it, and boxes in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

__all__ = ["Case", "Sliceable", "Window", "known_spacing", "whole_spacing"]


def known_spacing(spacing_mm: Sequence[float] | None) -> tuple[float, ...]:
    """Voxel size along the first axes, up to one of which the file does not say; empty without any.

    Args:
        spacing_mm: of a :class:`Case`: per spatial axis, NaN along an axis of which the file does not
            say.
    """
    return tuple(takewhile(lambda step: not math.isnan(step), spacing_mm or ()))


def whole_spacing(spacing_mm: Sequence[float] | None, axes: int) -> tuple[float, ...] | None:
    """Voxel size along so many first axes; None where the file does not say all of them."""
    known = known_spacing(spacing_mm)[:axes]
    return known if len(known) == axes else None


class Sliceable(Protocol):
    """An array that need not be in memory to give a part of itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the items."""
        ...

    @property
    def ndim(self) -> int:
        """Number of axes."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """A part of it."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """A box in the grid of an image; it may reach beyond an image that is smaller.

    Args:
        start: its first voxel, below 0 where it begins outside.
        size: its voxels per axis.
        grid: the voxels of the image.
        mirrored: axes along which what lies in the box is seen in a mirror.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    grid: tuple[int, ...]
    mirrored: tuple[int, ...] = ()

    @property
    def inside(self) -> tuple[slice, ...]:
        """The part of the window that lies in the image, in the window's own voxels."""
        return tuple(
            slice(n - part.stop, n - part.start) if axis in self.mirrored else part
            for axis, (part, n) in enumerate(zip(self._unmirrored, self.size, strict=True))
        )

    @property
    def _unmirrored(self) -> tuple[slice, ...]:
        sides = zip(self.start, self.size, self.grid, strict=True)
        return tuple(slice(max(0, -at), min(n, full - at)) for at, n, full in sides)

    def cut(self, array: np.ndarray | Sliceable, fill: np.ndarray | float) -> np.ndarray:
        """``[..., *size]`` of an array ``[..., *grid]``; ``fill`` stands outside the image.

        Of an array on disk no more is read than what lies in the window.
        """
        here = tuple(
            slice(at + part.start, at + part.stop)
            for at, part in zip(self.start, self._unmirrored, strict=True)
        )
        ahead = array.ndim - len(self.grid)
        patch = np.empty((*array.shape[:ahead], *self.size), array.dtype)
        patch[...] = fill
        lead = (slice(None),) * ahead
        seen = np.flip(array[lead + here], tuple(ahead + axis for axis in self.mirrored))
        patch[lead + self.inside] = seen
        return patch


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image with what is known about it.

    Args:
        id: unique in its dataset; a slice of a volume is ``VOLUME/sNNN``.
        patient: who it is of; splits keep all cases of a patient together.
        volume: the volume (patient and time point) that the case is, or is a slice of.
        image: float32 ``[channel, *space]``.
        label: uint8 ``[field, *space]`` with :data:`IGNORE` where unknown, or None.
        raters: the masks of several raters, uint8 ``[rater, field, *space]``, or None.
        spacing_mm: voxel size per spatial axis, NaN along one of which the file does not say, or None
            where it says nothing (:func:`known_spacing`).
        affine: ``[4, 4]`` voxel to world (RAS, mm) of the volume as it was read, or None.
        oriented: whether the affine, where there is one, says where the axes point to; false where a
            file tells its voxel size alone.
        stratum: what splits are balanced by (such as a diagnosis), or None.
        text: free text that belongs to the image, or None.
        colour: whether the channels are the red, green and blue of a picture.
        window: where the case lies in its image, if it is a patch of it; None for the whole image.
    """

    id: str
    patient: str
    volume: str
    image: Float[np.ndarray, "channel *space"]
    label: UInt8[np.ndarray, "field *space"] | None = None
    raters: UInt8[np.ndarray, "rater field *space"] | None = None
    spacing_mm: tuple[float, ...] | None = None
    affine: Float[np.ndarray, "4 4"] | None = None
    oriented: bool = True
    stratum: str | None = None
    text: str | None = None
    colour: bool = False
    window: Window | None = None
