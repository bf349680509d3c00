"""Images and masks as they are shown: native values in the native grid, on axes that viewers know."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Num, UInt8

from segpref.collect.contents import Axes
from segpref.data.orientation import orientation_of, turned
from segpref.types import Case, LabelSpace, SegprefError, known_spacing

__all__ = ["MOST_STRUCTURES", "Layout", "layout_of", "packed_mask"]

MOST_STRUCTURES = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """How the axes of a file become ``(z, y, x)``: by exchanging and flipping, without interpolation.

    Args:
        case: the image as it was read; a picture, or a volume.
        axes: what ``(z, y, x)`` are.
        slab: axis of the file and index where one slice is shown; None for the whole image.
    """

    case: Case
    axes: Axes
    slab: tuple[int, int] | None = None

    def __call__(self, values: Num[np.ndarray, "channel *space"]) -> np.ndarray:
        """Values on the axes of the file as ``[z, y, x]``, or ``[z, y, x, channel]`` of several.

        Args:
            values: whole, or only as thick as the slab along its axis.
        """
        if self.axes == "picture":
            shown = values[:, None]
        else:
            volume = values[..., None] if values.ndim == 3 else values
            if self.slab is not None and volume.shape[1 + self.slab[0]] > 1:
                volume = np.take(volume, [self.slab[1]], 1 + self.slab[0])
            if self.axes == "LPS":
                volume = turned(
                    replace(self.case, image=volume, label=None, raters=None), "LPS"
                ).image
            shown = volume.transpose(0, 3, 2, 1)
        whole = shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, -1)
        return np.ascontiguousarray(whole)

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Voxel size along z, y, x; None where the file does not say."""
        sizes = self.case.spacing_mm
        if sizes is None:
            return None
        lengths = list(self.case.image.shape[1:])
        if self.slab is not None:
            lengths[self.slab[0]] = 1
        # How thick a single slice is plays no part in what is shown.
        each = zip(lengths, sizes, strict=False)
        sizes = tuple(1.0 if n == 1 and math.isnan(one) else one for n, one in each)
        if len(known_spacing(sizes)) < len(sizes):
            return None
        if self.axes == "picture":
            return (1.0, float(sizes[0]), float(sizes[1]))
        if self.axes == "LPS":
            sizes = turned(replace(self.case, spacing_mm=sizes), "LPS").spacing_mm
            assert sizes is not None
        x, y, z = (*(float(size) for size in sizes), 1.0)[:3]
        return (z, y, x)


def layout_of(case: Case, slice_index: int | None = None, turned_to: str | None = None) -> Layout:
    """How an image is shown.

    Volumes go to the nearest of the patient's axes, so an oblique volume keeps its own slices. Where a
    file does not say where its axes point to, they stay as they are, and no letters are shown.

    Args:
        case: as it was read; a label is not looked at.
        slice_index: of a model that sees slices: which one, along the last axis.
        turned_to: where the axes of the volume point to for the model, if it is turned for it.
    """
    case = replace(case, label=None, raters=None)
    slab = None if slice_index is None else _slab(case, slice_index, turned_to)
    if case.image.ndim == 3:
        if case.affine is None:
            return Layout(case, "picture")
        # One slice of a volume that is kept as a file of two axes.
        sizes = None if case.spacing_mm is None else (*case.spacing_mm[:2], 1.0)
        case = replace(case, image=case.image[..., None], spacing_mm=sizes)
    return Layout(case, "unknown" if orientation_of(case) is None else "LPS", slab)


def packed_mask(
    mask: UInt8[np.ndarray, "field *space"], layout: Layout, space: LabelSpace
) -> Num[np.ndarray, "z y x"]:
    """A mask as it is shown: class indices, or one bit for each structure that may overlap.

    Args:
        mask: on the axes of the file.
        layout: of the image.
        space: what the mask means.

    Returns:
        uint8 of exclusive classes, uint32 of structures, the lowest bit for the first one.

    Raises:
        SegprefError: more than 32 structures that may overlap.
    """
    if space.kind == "multi-class":
        return layout(mask).astype(np.uint8)
    if space.fields > MOST_STRUCTURES:
        raise SegprefError(
            f"masks of {space.fields} structures that may overlap can't be shown: use a model of at "
            f"most {MOST_STRUCTURES}"
        )
    bits = np.zeros(mask.shape[1:], np.uint32)
    for place, one in enumerate(mask):
        bits |= (one == 1).astype(np.uint32) << np.uint32(place)
    return layout(bits[None])


def _slab(case: Case, index: int, codes: str | None) -> tuple[int, int]:
    """Axis and index in the file of a slice along the last axis of the turned volume."""
    shape = case.image.shape[1:]
    for axis in range(3):
        line = np.arange(shape[axis]).reshape([-1 if n == axis else 1 for n in range(3)])
        places = turned(replace(case, image=np.broadcast_to(line, shape)[None]), codes).image[0]
        if places[0, 0, 0] != places[0, 0, -1]:
            return axis, int(places[0, 0, index])
    # One slice alone: its axis has the length 1.
    return shape.index(1), 0
