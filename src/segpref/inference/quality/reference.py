"""What labelled images show of a judge and of the masks, kept in a file for later predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpref.data.cache import write_atomically
from segpref.inference.quality.calibration import Calibration, threshold
from segpref.inference.quality.images import CHECKS, ImageFigures, ImageReference
from segpref.inference.quality.json_numbers import with_nan, without_nan
from segpref.inference.quality.measuring import VolumeFigures
from segpref.inference.quality.shapes import Shape, Spread, spreads_of, z_scores
from segpref.trust import read_json
from segpref.types import LabelSpace, SegprefError

__all__ = [
    "MASK_CHECKS",
    "LabelledImages",
    "QualityReference",
    "StructureReference",
    "largest",
    "without_nan",
]

MASK_CHECKS = ("score", "judge_spread", "disagreement", "shape")
"""What is compared with a threshold of its structure; of ``score`` it is the negative, of the shape the
largest absolute z-score of its features."""

_FLOORS = {"shape": 3.5, "texture": 3.5, "intensity": 2.0, "spacing": 1.1}
"""The least thresholds, so that a small difference is no outlier where known images hardly differ: 3.5
is usual for robust z-scores (Iglewicz & Hoaglin, How to Detect and Handle Outliers, 1993)."""

_FORMAT = 1


@dataclass(frozen=True)
class StructureReference:
    """What is known of a structure.

    Args:
        calibration: from the judge's score to Dice.
        shapes: middle and usual variation of its size and shape in labels.
        present: share of the labelled images that have it.
        thresholds: by check; NaN where unknown.
    """

    calibration: Calibration
    shapes: Mapping[str, Spread]
    present: float
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class LabelledImages:
    """What was measured on labelled images.

    Args:
        figures: of the model's masks of the calibration images.
        dice: ``[image, structure]`` of these, 1 where mask and label both lack the structure.
        shapes: of labels by structure, in the order of the label space.
        images: statistics of known images.
    """

    figures: Sequence[VolumeFigures]
    dice: np.ndarray
    shapes: Sequence[Sequence[Shape]]
    images: Sequence[ImageFigures]


@dataclass(frozen=True)
class QualityReference:
    """What masks of new images are compared with.

    Args:
        model: digest of the model's weights.
        judge: digest of what the judge learned; empty where it has none.
        space: what the masks mean.
        in_mm: whether sizes are compared in mm³, or in voxels as some size of voxels is unknown.
        structures: by name, those that the labelled images have labels of.
        images: what known images look like.
        image_thresholds: by check of :data:`~segpref.inference.quality.images.CHECKS`.
        patients: how many the calibration is of.
    """

    model: str
    judge: str
    space: LabelSpace
    in_mm: bool
    structures: Mapping[str, StructureReference]
    images: ImageReference
    image_thresholds: Mapping[str, float]
    patients: int

    @classmethod
    def of(
        cls,
        found: LabelledImages,
        space: LabelSpace,
        model: str,
        judge: str,
        coverage: float,
        flag_rate: float,
    ) -> QualityReference:
        """Learn from labelled images.

        Args:
            found: what was measured.
            space: what masks and labels mean.
            model: digest of its weights.
            judge: digest of what it learned.
            coverage: of the intervals.
            flag_rate: share of ordinary masks that each check may flag.
        """
        in_mm = all(one.size is not None for shapes in found.shapes for one in shapes)
        names = sorted({one.patient for one in found.figures})
        numbers = tuple(names.index(one.patient) for one in found.figures)
        structures = {}
        for number, structure in enumerate(space.structures):
            if structure in space.unlabelled:
                continue
            masks = [one.masks[number] for one in found.figures]
            labels = found.shapes[number]
            spreads = spreads_of(labels, in_mm)
            values: dict[str, list[float]] = {
                "score": [-one.score for one in masks],
                "judge_spread": [one.judge_spread for one in masks],
                "disagreement": [one.disagreement for one in masks],
            }
            each = [z_scores(one.shape, spreads, in_mm) for one in masks]
            values["shape"] = [largest(one) for one in each]
            structures[structure] = StructureReference(
                Calibration(
                    tuple(one.score for one in masks),
                    tuple(float(value) for value in found.dice[:, number]),
                    numbers,
                    coverage,
                ),
                spreads,
                float(np.mean([one.voxels > 0 for one in labels])),
                {name: _limit(name, values[name], flag_rate) for name in MASK_CHECKS},
            )
        images = ImageReference.of(found.images)
        away = [images.distances(one.image) for one in found.figures]
        limits = {name: _limit(name, [one[name] for one in away], flag_rate) for name in CHECKS}
        return cls(model, judge, space, in_mm, structures, images, limits, len(names))

    def save(self, path: Path) -> None:
        """Write it as JSON; no name of a patient is in it."""
        content = {
            "format": _FORMAT,
            "model": self.model,
            "judge": self.judge,
            "in_mm": self.in_mm,
            "patients": self.patients,
            "structures": {
                name: {
                    "calibration": asdict(one.calibration),
                    "shapes": {key: asdict(spread) for key, spread in one.shapes.items()},
                    "present": one.present,
                    "thresholds": dict(one.thresholds),
                }
                for name, one in self.structures.items()
            },
            "images": self.images.as_dict(),
            "image_thresholds": dict(self.image_thresholds),
        }
        write_atomically(path, json.dumps(without_nan(content), indent=1).encode())

    @classmethod
    def load(cls, path: Path, space: LabelSpace) -> QualityReference:
        """Read what :meth:`save` wrote.

        Raises:
            SegprefError: it is no such file, damaged, or about other structures.
        """
        content = read_json(path)
        try:
            if content["format"] != _FORMAT:
                raise ValueError(f"its format is {content['format']!r}, not {_FORMAT}")
            structures = {str(name): _structure(one) for name, one in content["structures"].items()}
            images = ImageReference.from_dict(with_nan(content["images"]))
            limits = {name: _number(content["image_thresholds"][name]) for name in CHECKS}
            found = cls(
                str(content["model"]), str(content["judge"]), space, bool(content["in_mm"]),
                structures, images, limits, int(content["patients"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise SegprefError(
                f"{path} is no calibration that predict wrote ({type(error).__name__}: {error}): give "
                "the calibration.json of a report, or a folder of labelled images"
            ) from error
        # Labels may have told of some alone; that it is the same model is known by its digest.
        if not structures or list(structures) != [
            one for one in space.structures if one in structures
        ]:
            raise SegprefError(
                f"{path} is about {', '.join(structures)}, but the model predicts "
                f"{', '.join(space.structures)}: give --validation the labelled images"
            )
        return found


def _structure(content: Mapping[str, Any]) -> StructureReference:
    known = content["calibration"]
    scores, dice = (tuple(map(_number, known[name])) for name in ("scores", "dice"))
    patients = tuple(int(one) for one in known["patients"])
    if not len(scores) == len(dice) == len(patients):
        raise ValueError("scores, dice and patients differ in number")
    return StructureReference(
        Calibration(scores, dice, patients, float(known["coverage"])),
        {
            name: Spread(float(one["middle"]), float(one["scale"]))
            for name, one in content["shapes"].items()
        },
        float(content["present"]),
        {name: _number(content["thresholds"][name]) for name in MASK_CHECKS},
    )


def _limit(name: str, values: Sequence[float], share: float) -> float:
    found = threshold(values, share)
    return found if math.isnan(found) else max(found, _FLOORS.get(name, -math.inf))


def largest(scores: Mapping[str, float]) -> float:
    """The largest absolute z-score; NaN where all are unknown."""
    known = [abs(value) for value in scores.values() if not math.isnan(value)]
    return max(known, default=math.nan)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
