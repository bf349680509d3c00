"""Results of the study: scores per image, and differences paired over images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from segpref.data.csv_files import read_csv
from segpref.report.differences import bootstrap_interval
from segpref.studies.prompted.rows import measured_boxes, row_file
from segpref.studies.prompted.workspace import PromptedWorkspace

__all__ = ["MEASURES", "Boxes", "Figure", "Scores", "gain", "image_lines", "read_boxes", "read_row"]

MEASURES = ("Dice", "IoU", "Surface Dice")

Figure = tuple[float, float, float]
"""A mean over images and the 95 % bootstrap interval around it."""


@dataclass(frozen=True)
class Scores:
    """Scores of one row.

    Args:
        images: measure -> image -> score, of every fold that is finished; each image is tested on once.
        folds: how many are.
    """

    images: Mapping[str, Mapping[str, float]]
    folds: int

    def mean(self, measure: str) -> float:
        """Mean over images."""
        values = list(self.images[measure].values())
        return float(np.mean(values)) if values else math.nan


def read_row(workspace: PromptedWorkspace, row: str) -> Scores | None:
    """Scores of a row of a table; None where no fold has it yet."""
    found: dict[str, dict[str, float]] = {measure: {} for measure in MEASURES}
    folds = 0
    for number in range(workspace.recipe.folds):
        file = row_file(workspace, number, row)
        if not file.exists():
            continue
        folds += 1
        for line in read_csv(file):
            for measure, values in found.items():
                values[line["volume"]] = _score(line, measure)
    return Scores(found, folds) if folds else None


def image_lines(workspace: PromptedWorkspace) -> Iterator[dict[str, object]]:
    """Scores of every image and finished row: what the tables are means of."""
    for number in range(workspace.recipe.folds):
        for file in sorted(workspace.folder(number).glob("*/test.csv")):
            for line in read_csv(file):
                named = {"row": file.parent.name, "fold": number, "image": line["volume"]}
                yield {**named, **{_named(one): _score(line, one) for one in MEASURES}}


def _score(line: Mapping[str, str], measure: str) -> float:
    score = float(next(value for name, value in line.items() if name.startswith(_named(measure))))
    # What was not drawn at all has no surface, and agrees with none.
    return 0.0 if math.isnan(score) else score


def _named(measure: str) -> str:
    """How a measure's column begins; that of a surface Dice goes on with tolerance and unit."""
    return measure.lower().replace(" ", "_")


def gain(one: Scores, other: Scores, measure: str = "Dice") -> Figure:
    """By how much one row is better than another on the images that both were tested on."""
    ours, theirs = one.images[measure], other.images[measure]
    shared = sorted(set(ours) & set(theirs))
    return _with_interval(np.array([ours[name] - theirs[name] for name in shared]))


@dataclass(frozen=True)
class Boxes:
    """How well automatic boxes cover the structure.

    Args:
        images: number of images.
        figures: by name, over images.
    """

    images: int
    figures: Mapping[str, Figure]


def read_boxes(workspace: PromptedWorkspace) -> Boxes | None:
    """Boxes of all finished folds; None where none is."""
    files = [workspace.folder(number) / "boxes.csv" for number in range(workspace.recipe.folds)]
    lines = [line for file in files if file.exists() for line in read_csv(file)]
    if not lines:
        return None
    columns = {
        name: np.array([float(line[name]) for line in lines])
        for name in lines[0]
        if name != "image"
    }
    names = {
        "Recall: share of the structure inside the box": columns["recall"],
        "Images with recall of at least 0.9": columns["recall"] >= 0.9,
        "IoU of the box with that around the structure": columns["box_iou"],
        "Images with a box IoU of at least 0.5": columns["box_iou"] >= 0.5,
        "Share of the image that the box takes": columns["box_share"],
        "Points that lie on the structure": columns["points_on"],
        "Images where nothing was found (the box is the image)": columns["nothing_found"],
    }
    if measured_boxes(workspace.recipe) != "box and points":
        del names["Points that lie on the structure"]
    return Boxes(
        len(lines), {name: _with_interval(v.astype(np.float64)) for name, v in names.items()}
    )


def _with_interval(values: Float[np.ndarray, " image"]) -> Figure:
    mean = float(values.mean()) if len(values) else math.nan
    return mean, *bootstrap_interval(values)
