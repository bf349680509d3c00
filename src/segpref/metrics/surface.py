"""Surface distances, computed once per structure, and the metrics derived from them.

A surface is taken in one of two ways, which give other numbers:

- **boundary voxels** (:func:`surface_distances`), as MONAI and MedPy do: voxels of the mask that have a
  face on something else, each counted once. Distances are between the centres of boundary voxels.
- **surface elements** (:func:`element_distances`), as DeepMind's ``surface-distance`` does: between the
  centres of 2 x 2 (x 2) neighbouring voxels runs a piece of contour (surface) of known length (area).
  Each counts by that, so a slanted edge is worth as much as a straight one of its length, and voxels
  need not be cubes.

The border of the image counts as something else. Distances are in mm where the voxel size is known and
in voxels where it is not, and the names of the columns say which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segpref.late import late
from segpref.types import IGNORE, LabelSpace, SegprefError

__all__ = [
    "DistanceSummary",
    "SurfaceDistances",
    "average_surface_distance",
    "element_distances",
    "hausdorff",
    "hausdorff_95",
    "summarise_distances",
    "surface_dice",
    "surface_distances",
    "surface_scores",
]

edt, ndimage = late("edt"), late("scipy.ndimage")
monai_metrics = late("monai.metrics.utils")


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances of each surface to the other; infinite where the other mask is empty.

    Args:
        to_truth: for every piece of the predicted surface, how far the true surface is.
        to_prediction: for every piece of the true surface, how far the predicted surface is.
        predicted_area: area (in 2D length) of every piece of the predicted surface; None where boundary
            voxels are counted.
        true_area: the same of the true surface.
    """

    to_truth: Float[np.ndarray, " predicted"]
    to_prediction: Float[np.ndarray, " true"]
    predicted_area: Float[np.ndarray, " predicted"] | None = None
    true_area: Float[np.ndarray, " true"] | None = None

    @property
    def both(self) -> Float[np.ndarray, " n"]:
        """Distances of all pieces of both surfaces."""
        return np.concatenate([self.to_truth, self.to_prediction])

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        """What each of them counts: its area, or 1."""
        if self.predicted_area is None or self.true_area is None:
            return np.ones(len(self.to_truth) + len(self.to_prediction))
        return np.concatenate([self.predicted_area, self.true_area])


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
    """Distances between the boundary voxels of two binary masks in 2D or 3D, each counted once.

    Args:
        prediction: the mask in question.
        truth: the mask that it is compared with.
        spacing: size of a voxel along each axis; 1 where not given.

    Raises:
        SegprefError: masks on different grids, or a spacing for another number of axes.
    """
    size = _checked(prediction, truth, spacing)
    box = _box(prediction | truth)
    found, real = _surface(prediction[box]), _surface(truth[box])
    return SurfaceDistances(_reach(found, real, size), _reach(real, found, size))


def element_distances(
    prediction: Bool[np.ndarray, " *space"],
    truth: Bool[np.ndarray, " *space"],
    spacing: Sequence[float] | None = None,
) -> SurfaceDistances:
    """Distances between the surface elements of two binary masks in 2D or 3D, with their areas.

    The same elements, distances and areas as DeepMind's ``compute_surface_distances`` (Nikolov et al.,
    2018, arXiv:1809.04430), unsorted; the tables of areas are MONAI's.

    Args:
        prediction: the mask in question.
        truth: the mask that it is compared with.
        spacing: size of a voxel along each axis; 1 where not given.

    Raises:
        SegprefError: masks on different grids, a spacing for another number of axes, or other than 2
            or 3 axes.
    """
    size = _checked(prediction, truth, spacing)
    if truth.ndim not in (2, 3):
        raise SegprefError(f"surface elements are of masks in 2D or 3D, not in {truth.ndim}D")
    box = _box(prediction | truth)
    (found, area), (real, true_area) = (_elements(one[box], size) for one in (prediction, truth))
    return SurfaceDistances(_reach(found, real, size), _reach(real, found, size), area, true_area)


def average_surface_distance(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance: mean over both surfaces, by area where it is known.

    NaN where both masks are empty, infinite where one is.
    """
    both, weights = distances.both, distances.weights
    return float((both * weights).sum() / weights.sum()) if len(both) else np.nan


def hausdorff(distances: SurfaceDistances) -> float:
    """Hausdorff distance: the largest distance of either surface to the other.

    NaN where both masks are empty, infinite where one is.
    """
    return float(distances.both.max(initial=0.0)) if len(distances.both) else np.nan


def hausdorff_95(distances: SurfaceDistances) -> float:
    """95 % Hausdorff distance: the larger of the two directions' 95th percentiles.

    Of boundary voxels the percentile is numpy's, linear between two of them; of surface elements it is
    the least distance within which at least 95 % of the area lies, as DeepMind's.
    NaN where both masks are empty, infinite where one is.
    """
    ways = (
        (distances.to_truth, distances.predicted_area),
        (distances.to_prediction, distances.true_area),
    )
    told = [(way, area) for way, area in ways if len(way)]
    if not told:
        return np.nan
    if not all(np.isfinite(way).all() for way, _ in told):
        return np.inf
    return max(_percentile_95(way, area) for way, area in told)


def surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """Share of both surfaces that lies within ``tolerance`` of the other: of voxels, or of the area.

    NaN where both masks are empty, 0 where one is.
    """
    both, weights = distances.both, distances.weights
    if not len(both):
        return np.nan
    # Two steps of 0.6 mm are 1.2 mm, although 1.2000000477 in the distances' float32.
    return float(weights[both <= tolerance * (1 + 1e-5)].sum() / weights.sum())


def surface_scores(
    prediction: UInt8[np.ndarray, "field *space"],
    truth: UInt8[np.ndarray, "field *space"],
    label_space: LabelSpace,
    spacing_mm: Sequence[float] | None = None,
    tolerance_mm: float = 2.0,
    tolerance_voxel: float = 1.0,
) -> dict[str, Float[np.ndarray, " structure"]]:
    """Surface measures of every structure, by column name.

    ``assd``, ``hd95`` and ``hd`` count boundary voxels; ``surface_dice`` is by area of surface
    elements. Names end with the unit, that of the surface Dice with the tolerance: ``assd_mm``,
    ``hd95_mm``, ``hd_mm``, ``surface_dice_2_mm``; with ``_voxel`` where the voxel size is not known.
    By the other way of counting it is a line: ``surface_dice(surface_distances(...), 2.0)``.
    Pixels that are :data:`~segpref.types.IGNORE` in ``truth`` belong to no structure of either.
    A structure that both lack is NaN in all columns; one that only one lacks has infinite distances
    and the surface Dice 0. See :func:`summarise_distances` for means.
    """
    unit, tolerance = ("voxel", tolerance_voxel) if spacing_mm is None else ("mm", tolerance_mm)
    found = label_space.structure_masks(np.where(truth == IGNORE, truth, prediction))
    real = label_space.structure_masks(truth)
    pairs = list(zip(found, real, strict=True))
    voxels = [surface_distances(*both, spacing_mm) for both in pairs]
    elements = [element_distances(*both, spacing_mm) for both in pairs]

    def of(
        measure: Callable[[SurfaceDistances], float], surfaces: Sequence[SurfaceDistances]
    ) -> Float[np.ndarray, " structure"]:
        return np.array([measure(one) for one in surfaces])

    def overlap(one: SurfaceDistances) -> float:
        return surface_dice(one, tolerance)

    return {
        f"assd_{unit}": of(average_surface_distance, voxels),
        f"hd95_{unit}": of(hausdorff_95, voxels),
        f"hd_{unit}": of(hausdorff, voxels),
        f"surface_dice_{tolerance:g}_{unit}": of(overlap, elements),
    }


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


def _checked(
    prediction: Bool[np.ndarray, " *space"],
    truth: Bool[np.ndarray, " *space"],
    spacing: Sequence[float] | None,
) -> tuple[float, ...]:
    """The voxel size, of masks that can be compared."""
    size = (1.0,) * truth.ndim if spacing is None else tuple(float(one) for one in spacing)
    if prediction.shape != truth.shape or len(size) != truth.ndim:
        raise SegprefError(
            f"surfaces need two masks on one grid and one voxel size per axis, not the shapes "
            f"{prediction.shape} and {truth.shape} with the voxel size {size}; resample the "
            "prediction onto the grid of the label"
        )
    return size


def _elements(
    mask: Bool[np.ndarray, " *space"], spacing: tuple[float, ...]
) -> tuple[Bool[np.ndarray, " *corner"], Float[np.ndarray, " n"]]:
    """At which corners of voxels a surface element lies, and the area of each."""
    areas, kernel = _areas(spacing)
    padded = np.pad(mask, 1).view(np.uint8)
    code = np.zeros([length + 1 for length in mask.shape], np.uint8)
    for place, worth in np.ndenumerate(kernel):
        # The voxels at one side of all corners.
        side = tuple(slice(at, at + n) for at, n in zip(place, code.shape, strict=True))
        code += np.uint8(worth) * padded[side]
    held = (code != 0) & (code != len(areas) - 1)
    return held, areas[code[held]]


@lru_cache(maxsize=64)
def _areas(
    spacing: tuple[float, ...],
) -> tuple[Float[np.ndarray, " code"], Float[np.ndarray, "..."]]:
    """Area of the element of every pattern of neighbours, and what each neighbour adds to its code."""
    areas, kernel = monai_metrics.get_code_to_measure_table(spacing)
    return np.asarray(areas, np.float64), np.asarray(kernel).squeeze((0, 1)).astype(np.uint8)


def _percentile_95(
    distances: Float[np.ndarray, " n"], area: Float[np.ndarray, " n"] | None
) -> float:
    if area is None:
        return float(np.percentile(distances, 95))
    order = np.lexsort((area, distances))
    reached = np.cumsum(area[order]) / area.sum()
    place = min(int(np.searchsorted(reached, 0.95)), len(order) - 1)
    return float(distances[order][place])


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
