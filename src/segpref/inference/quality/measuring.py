"""What is measured of each mask, whether its image has a label or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segpref.data.dataset import Dataset, Volume
from segpref.data.masks import MaskFolder
from segpref.inference.quality.disagreement import OwnOpinion, SelfAssessment
from segpref.inference.quality.images import ImageFigures, figures_of
from segpref.inference.quality.shapes import Shape, shape_of
from segpref.judges import whole_mask_scores
from segpref.progress import track
from segpref.types import Case, Judge, PreparedJudge

__all__ = ["MaskFigures", "VolumeFigures", "image_figures", "measured", "shapes_of"]


@dataclass(frozen=True)
class MaskFigures:
    """What is measured of one structure in one mask; NaN where it is unknown.

    Args:
        structure: its name.
        score: the judge's; NaN where it abstains.
        judge_spread: standard deviation over the members of the judge.
        disagreement: of the model with itself.
        confidence: of the model, from 0 to 1.
        shape: of the structure.
    """

    structure: str
    score: float
    judge_spread: float
    disagreement: float
    confidence: float
    shape: Shape


@dataclass(frozen=True)
class VolumeFigures:
    """What is measured of an image and its mask.

    Args:
        volume: its id.
        patient: who it is of.
        image: its statistics.
        masks: one for each structure.
    """

    volume: str
    patient: str
    image: ImageFigures
    masks: tuple[MaskFigures, ...]


def measured(
    dataset: Dataset,
    folder: MaskFolder,
    judge: Judge,
    itself: SelfAssessment | None,
    what: str,
) -> Iterator[tuple[VolumeFigures, Case]]:
    """Measure the masks of a folder, with the image as it is on disk and its mask as the label.

    Args:
        dataset: the images as the network takes them.
        folder: of the masks; images without one are left out.
        judge: scores the masks; it sees no label.
        itself: what the model says of its own masks; unknown where None.
        what: name of the work, for the progress bar.
    """
    space = dataset.label_space
    dataset = dataset.without_labels()
    folder.prepare(dataset)
    if isinstance(judge, PreparedJudge):
        judge.prepare(dataset)
    start = 0
    volumes = dataset.by_volume()
    for volume, items in track(volumes, what, len(volumes)):
        cases = dataset[start : start + len(items)]
        start += len(items)
        case = folder.case(volume.source)
        if case is None:
            continue
        masks = np.stack([_known(folder[one]) for one in cases])
        said = whole_mask_scores(judge, cases, masks, space)
        count = len(space.structures)
        nothing = np.full(count, np.nan)
        own = OwnOpinion(nothing, nothing) if itself is None else itself(volume, items)
        parts = zip(space.structures, shapes_of(case, folder), strict=True)
        figures = tuple(
            MaskFigures(
                name,
                float(said.score[n]),
                float(said.spread[n]),
                float(own.disagreement[n]),
                float(own.confidence[n]),
                shape,
            )
            for n, (name, shape) in enumerate(parts)
        )
        source = volume.source
        yield (
            VolumeFigures(source.id, source.patient, image_figures(volume, items), figures),
            case,
        )


def image_figures(volume: Volume, items: list[int]) -> ImageFigures:
    """Statistics of a prepared volume."""
    return figures_of(np.asarray(volume.images[items]), volume.voxel_mm)


def shapes_of(case: Case, folder: MaskFolder) -> list[Shape]:
    """The shape of each structure of a label on the voxels of the file."""
    parts = folder.label_space.structure_masks(np.asarray(case.label))
    return [shape_of(part, case.spacing_mm) for part in parts]


def _known(mask: np.ndarray | None) -> np.ndarray:
    assert mask is not None
    return mask
