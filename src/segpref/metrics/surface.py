"""Distances between surfaces: computed once per structure, then tiny functions of them.

The surface of a mask is made of its voxels that have a face on something else; the border of the
image counts as something else. Distances are between the centres of surface voxels, in mm where the
voxel size is known and in voxels where it is not, and the names of the columns say which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import edt
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from segpref.types import IGNORE, LabelSpace, SegprefError

__all__ = [
    "DistanceSummary",
    "SurfaceDistances",
    "average_surface_distance",
    "hausdorff_95",
    "summarise_distances",
    "surface_dice",
    "surface_distances",
    "surface_scores",
]


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances of each surface to the other; infinite where the other mask is empty.

    Args:
        to_truth: for every surface voxel of the prediction, how far the true surface is.
        to_prediction: for every surface voxel of the truth, how far the predicted surface is.
    """

    to_truth: Float[np.ndarray, " predicted"]
    to_prediction: Float[np.ndarray, " true"]


@dataclass(frozen=True, slots=True)
class DistanceSummary:
    """A mean of distances that hides no miss.

    Args:
        mean: mean of the finite distances; NaN where there is none.
        missed: how many were infinite: one of prediction and truth was empty.
        absent: how many were NaN, both empty, and are left out.
    """

    mean: float
    missed: int
    absent: int


def surface_distances(
    prediction: Bool[np.ndarray, " *space"],
    truth: Bool[np.ndarray, " *space"],
    spacing: Sequence[float] | None = None,
) -> SurfaceDistances:
    """Distances between the surfaces of two binary masks in 2D or 3D.

    Args:
        prediction: the mask in question.
        truth: the mask that it is compared with.
        spacing: size of a voxel along each axis; 1 where not given.

    Raises:
        SegprefError: masks on different grids, or a spacing for another number of axes.
    """
    spacing = (1.0,) * truth.ndim if spacing is None else tuple(float(size) for size in spacing)
    if prediction.shape != truth.shape or len(spacing) != truth.ndim:
        raise SegprefError(
            f"surfaces need two masks on one grid and one voxel size per axis, not the shapes "
            f"{prediction.shape} and {truth.shape} with the voxel size {spacing}; resample the "
            "prediction onto the grid of the label"
        )
    box = _box(prediction | truth)
    found, real = _surface(prediction[box]), _surface(truth[box])
    return SurfaceDistances(_reach(found, real, spacing), _reach(real, found, spacing))


def average_surface_distance(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance: mean over the voxels of both surfaces.

    NaN where both masks are empty, infinite where one is.
    """
    both = np.concatenate([distances.to_truth, distances.to_prediction])
    return float(both.mean()) if len(both) else np.nan


def hausdorff_95(distances: SurfaceDistances) -> float:
    """95 % Hausdorff distance: the larger of the two directions' 95th percentiles.

    NaN where both masks are empty, infinite where one is.
    """
    ways = [way for way in (distances.to_truth, distances.to_prediction) if len(way)]
    if not ways:
        return np.nan
    if not all(np.isfinite(way).all() for way in ways):
        return np.inf
    return float(max(np.percentile(way, 95) for way in ways))


def surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """Share of both surfaces' voxels that lie within ``tolerance`` of the other surface.

    NaN where both masks are empty, 0 where one is.
    """
    both = np.concatenate([distances.to_truth, distances.to_prediction])
    # Two steps of 0.6 mm are 1.2 mm, although 1.2000000477 in the distances' float32.
    return float((both <= tolerance * (1 + 1e-5)).mean()) if len(both) else np.nan


def surface_scores(
    prediction: UInt8[np.ndarray, "field *space"],
    truth: UInt8[np.ndarray, "field *space"],
    label_space: LabelSpace,
    spacing_mm: Sequence[float] | None = None,
    tolerance_mm: float = 2.0,
    tolerance_voxel: float = 1.0,
) -> dict[str, Float[np.ndarray, " structure"]]:
    """Surface measures of every structure, by column name.

    The columns are ``assd_mm``, ``hd95_mm`` and ``surface_dice_2_mm`` (with the tolerance), or
    ``assd_voxel``, ``hd95_voxel`` and ``surface_dice_1_voxel`` where the voxel size is not known.
    Pixels that are :data:`~segpref.types.IGNORE` in ``truth`` belong to no structure of either.
    A structure that both lack is NaN in all columns; one that only one lacks has infinite distances
    and the surface Dice 0. See :func:`summarise_distances` for means.
    """
    unit, tolerance = ("voxel", tolerance_voxel) if spacing_mm is None else ("mm", tolerance_mm)
    measures: dict[str, Callable[[SurfaceDistances], float]] = {
        f"assd_{unit}": average_surface_distance,
        f"hd95_{unit}": hausdorff_95,
        f"surface_dice_{tolerance:g}_{unit}": lambda found: surface_dice(found, tolerance),
    }
    found = label_space.structure_masks(np.where(truth == IGNORE, truth, prediction))
    real = label_space.structure_masks(truth)
    distances = [surface_distances(*both, spacing_mm) for both in zip(found, real, strict=True)]
    return {name: np.array([of(d) for d in distances]) for name, of in measures.items()}


def summarise_distances(values: Float[np.ndarray, " n"]) -> DistanceSummary:
    """Mean of the finite distances, with the number of misses beside it.

    A miss has no distance: an infinite mean would say nothing about the others, and a mean without
    it would reward missing. So neither is reported without the other.
    """
    finite = values[np.isfinite(values)]
    return DistanceSummary(
        mean=float(finite.mean()) if len(finite) else np.nan,
        missed=int(np.isinf(values).sum()),
        absent=int(np.isnan(values).sum()),
    )


def _box(mask: Bool[np.ndarray, " *space"]) -> tuple[slice, ...]:
    """Bounding box; all of it where the mask is empty."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else (slice(None),) * mask.ndim


def _surface(mask: Bool[np.ndarray, " *space"]) -> Bool[np.ndarray, " *space"]:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _reach(
    start: Bool[np.ndarray, " *space"],
    target: Bool[np.ndarray, " *space"],
    spacing: tuple[float, ...],
) -> Float[np.ndarray, " n"]:
    """Distance of every voxel of ``start`` to the nearest one of ``target``."""
    if not start.any() or not target.any():
        return np.full(np.count_nonzero(start), np.inf)
    field = edt.edt(np.ascontiguousarray(~target), anisotropy=spacing, parallel=1)
    return np.asarray(field[start], dtype=np.float64)
