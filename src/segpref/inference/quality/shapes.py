"""Size and shape of drawn structures, and how far they are from those of labelled images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from segpref.late import late
from segpref.types import whole_spacing

__all__ = ["FEATURES", "Shape", "Spread", "robust_scale", "shape_of", "spreads_of", "z_scores"]

cc3d = late("cc3d")


@dataclass(frozen=True)
class Shape:
    """Size and shape of one structure in one mask, on the voxels of the image's file.

    Args:
        voxels: how many.
        size: in mm³ (mm² of pictures) where the size of voxels is known; None where not.
        components: connected parts, also by corners (26 neighbours, 8 in 2D); 0 where empty.
        largest: share of the voxels in the largest part; NaN where empty.
        filling: share of its bounding box that the structure fills; NaN where empty.
    """

    voxels: int
    size: float | None
    components: int
    largest: float
    filling: float

    def features(self, in_mm: bool) -> dict[str, float]:
        """The numbers that are compared, all NaN where empty: see :data:`FEATURES`.

        Args:
            in_mm: whether sizes are compared in mm³; NaN where that is unknown.
        """
        if self.voxels == 0:
            return dict.fromkeys(FEATURES, math.nan)
        size = (self.size or math.nan) if in_mm else float(self.voxels)
        return {
            "size": math.log(size),
            "components": float(self.components),
            "largest": self.largest,
            "filling": self.filling,
        }


FEATURES: Mapping[str, float] = {
    "size": 0.1,
    "components": 0.5,
    "largest": 0.02,
    "filling": 0.02,
}
"""Features (``size`` is the logarithm of it) with the least scale that counts as their usual variation:
where nearly all masks agree, as in the number of components, a small difference is no outlier."""


@dataclass(frozen=True)
class Spread:
    """Middle and usual variation of a feature: median, and 1.4826 times the median distance from it."""

    middle: float
    scale: float


def shape_of(part: Bool[np.ndarray, "*space"], spacing_mm: Sequence[float] | None) -> Shape:
    """Size and shape of a binary mask.

    Args:
        part: the structure.
        spacing_mm: size of its voxels; None if unknown.
    """
    voxels = int(part.sum())
    size = None
    if spacing_mm is not None and len(spacing_mm) == part.ndim:
        known = whole_spacing(spacing_mm, part.ndim)
        size = None if known is None else voxels * math.prod(known)
    if voxels == 0:
        return Shape(0, size, 0, math.nan, math.nan)
    places = np.nonzero(part)
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in places)
    inner = np.ascontiguousarray(part[box]).astype(np.uint8)
    ids = cc3d.connected_components(inner, connectivity=26 if part.ndim == 3 else 8)
    counts = np.bincount(ids.ravel())[1:]
    counts = counts[counts > 0]
    largest = float(counts.max() / voxels)
    return Shape(voxels, size, len(counts), largest, voxels / inner.size)


def spreads_of(shapes: Sequence[Shape], in_mm: bool) -> dict[str, Spread]:
    """Middle and scale of each feature over masks; those without the structure are left out."""
    features = [one.features(in_mm) for one in shapes]
    found = {}
    for name, least in FEATURES.items():
        values = np.array([one[name] for one in features if not math.isnan(one[name])])
        if len(values):
            middle, scale = robust_scale(values)
            found[name] = Spread(middle, max(scale, least))
    return found


def z_scores(shape: Shape, spreads: Mapping[str, Spread], in_mm: bool) -> dict[str, float]:
    """Robust z-scores ``(x - median) / scale``; NaN of an empty mask, or what is not known."""
    features = shape.features(in_mm)
    return {
        name: (features[name] - spreads[name].middle) / spreads[name].scale
        if name in spreads
        else math.nan
        for name in FEATURES
    }


def robust_scale(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Median, and 1.4826 times the median absolute deviation: a normal law's standard deviation."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))
