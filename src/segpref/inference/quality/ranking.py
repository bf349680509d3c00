"""The masks of new images in the order in which a person should look at them, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from segpref.inference.quality.images import CHECKS
from segpref.inference.quality.measuring import MaskFigures, VolumeFigures
from segpref.inference.quality.reference import QualityReference, largest
from segpref.inference.quality.shapes import z_scores
from segpref.late import late

__all__ = ["RankedMask", "image_order", "ranked", "worst_images"]

stats: Any = late("scipy.stats")

ALWAYS = 0.95
"""A structure that more of the labelled images have should not be missing from a mask."""

_IMAGE_REASONS = {
    "intensity": "unusual intensities",
    "texture": "unusual noise or blur",
    "spacing": "unusual voxel size",
}


@dataclass(frozen=True)
class RankedMask:
    """One structure in one mask, with what is known of it; NaN where it is unknown.

    Args:
        rank: from 1, the first to look at.
        figures: what was measured.
        volume: id of the image.
        patient: who it is of.
        predicted: Dice as predicted.
        low: lower end of its interval.
        high: upper end.
        z: robust z-scores of size and shape.
        image: distances of the image from known ones.
        reasons: why somebody should look at it; empty where nothing was flagged.
    """

    rank: int
    figures: MaskFigures
    volume: str
    patient: str
    predicted: float
    low: float
    high: float
    z: Mapping[str, float]
    image: Mapping[str, float]
    reasons: tuple[str, ...]

    def as_row(self) -> dict[str, str | float | int]:
        """A line of the table; what is unknown is empty."""
        shape = self.figures.shape
        numbers: dict[str, float] = {
            "predicted_dice": self.predicted,
            "dice_low": self.low,
            "dice_high": self.high,
            "judge_score": self.figures.score,
            "judge_spread": self.figures.judge_spread,
            "model_disagreement": self.figures.disagreement,
            "model_confidence": self.figures.confidence,
            "size_mm": math.nan if shape.size is None else shape.size,
            **{f"{name}_z": value for name, value in self.z.items()},
            **{f"image_{name}": self.image[name] for name in CHECKS},
        }
        return {
            "rank": self.rank,
            "image": self.volume,
            "patient": self.patient,
            "structure": self.figures.structure,
            "look": "yes" if self.reasons else "no",
            "why": "; ".join(self.reasons),
            **{name: "" if math.isnan(one) else round(one, 4) for name, one in numbers.items()},
            "voxels": shape.voxels,
            "components": shape.components,
        }


def ranked(volumes: Iterable[VolumeFigures], known: QualityReference) -> list[RankedMask]:
    """All structures of all masks that something is known of, the first to look at first.

    Those whose Dice nobody can predict come first. The masks of a structure are then in the order of
    the sum of two ranks among them, that of the judge's score and that of the model's confidence
    (docs/results/quality says what that is worth). Structures are put into one list by predicted Dice:
    the first mask of a structure has the lowest of its masks, and so on. Equal ones are in the order of
    flags, score, the model's disagreement with itself, and name.
    """
    everything = list(volumes)
    found: list[tuple[float, float, RankedMask]] = []
    for number, structure in enumerate(known.space.structures):
        if structure not in known.structures:
            continue
        calibration = known.structures[structure].calibration
        scores = np.array([one.masks[number].score for one in everything])
        predicted = calibration.predicted(scores)
        low, high = calibration.interval(scores)
        confidences = np.array([one.masks[number].confidence for one in everything])
        places, sums = _places(scores, confidences, predicted)
        for place, volume in enumerate(everything):
            ends = (float(predicted[place]), float(low[place]), float(high[place]))
            checked = _checked(volume, volume.masks[number], known, ends)
            found.append((float(places[place]), float(sums[place]), checked))
    order = sorted(found, key=lambda one: _order(*one))
    return [replace(one, rank=rank) for rank, (_, _, one) in enumerate(order, start=1)]


def worst_images(masks: Sequence[RankedMask], most: int | None = None) -> list[RankedMask]:
    """The first mask of each image that was flagged, in their order; so many at most."""
    first: dict[str, RankedMask] = {}
    for one in masks:
        if one.reasons:
            first.setdefault(one.volume, one)
    return list(first.values())[:most]


def image_order(masks: Sequence[RankedMask]) -> list[RankedMask]:
    """The first mask of each image: flagged ones as :func:`worst_images` has them, then the others."""
    first: dict[str, RankedMask] = {}
    for one in [*worst_images(masks), *masks]:
        first.setdefault(one.volume, one)
    return list(first.values())


def _checked(
    volume: VolumeFigures,
    mask: MaskFigures,
    known: QualityReference,
    dice: tuple[float, float, float],
) -> RankedMask:
    own = known.structures[mask.structure]
    z = z_scores(mask.shape, own.shapes, known.in_mm)
    image = known.images.distances(volume.image)
    limits = own.thresholds
    reasons = []
    if math.isnan(mask.score) and own.calibration.known:
        reasons.append("the judge abstains")
    if -mask.score > limits["score"]:
        reasons.append("low score")
    if mask.shape.voxels == 0 and own.present > ALWAYS:
        reasons.append("nothing drawn")
    if mask.judge_spread > limits["judge_spread"]:
        reasons.append("the judge's members disagree")
    if mask.disagreement > limits["disagreement"]:
        reasons.append("the model disagrees with itself")
    if largest(z) > limits["shape"]:
        reasons.append(_shape_reason(z))
    reasons += [
        text for name, text in _IMAGE_REASONS.items() if image[name] > known.image_thresholds[name]
    ]
    return RankedMask(0, mask, volume.volume, volume.patient, *dice, z, image, tuple(reasons))


def _shape_reason(z: Mapping[str, float]) -> str:
    name = max(z, key=lambda one: -1.0 if math.isnan(z[one]) else abs(z[one]))
    if name == "size":
        return "unusually large" if z[name] > 0 else "unusually small"
    return "several parts" if name in ("components", "largest") else "unusual shape"


def _places(
    scores: Float[np.ndarray, " mask"],
    confidences: Float[np.ndarray, " mask"],
    predicted: Float[np.ndarray, " mask"],
) -> tuple[Float[np.ndarray, " mask"], Float[np.ndarray, " mask"]]:
    """Where the masks of a structure stand, on the scale of predicted Dice, and their sums of ranks.

    Places are NaN where Dice can't be predicted, sums 0 where confidence is unknown. The function
    from score to Dice has steps, so that masks of other sums may stand in one place.
    """
    found, whole = np.full(len(scores), np.nan), np.zeros(len(scores))
    known = np.flatnonzero(~np.isnan(predicted))
    if not len(known):
        return found, whole
    sums = stats.rankdata(scores[known])
    if not np.isnan(confidences[known]).any():
        whole[known] = sums = sums + stats.rankdata(confidences[known])
    # Masks of equal sums share the mean of their places.
    _, which, counts = np.unique(sums, return_inverse=True, return_counts=True)
    starts = np.r_[0, np.cumsum(counts)[:-1]]
    shared = np.add.reduceat(np.sort(predicted[known]), starts) / counts
    found[known] = shared[which]
    return found, whole


def _order(place: float, ranks: float, one: RankedMask) -> tuple[object, ...]:
    mask = one.figures
    unknown = math.isnan(place)
    disagreement = 0.0 if math.isnan(mask.disagreement) else mask.disagreement
    return (
        not unknown,
        0.0 if unknown else place,
        ranks,
        not one.reasons,
        math.inf if math.isnan(mask.score) else mask.score,
        -disagreement,
        one.volume,
        mask.structure,
    )
