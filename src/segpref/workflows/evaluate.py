"""Scores of a model on labelled cases in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpref.data import Cache, Reader
from segpref.data.csv_files import write_csv
from segpref.data.splits import refuse_leakage
from segpref.inference.evaluation import Row, mean_of, score_model
from segpref.inference.windows import whole_images
from segpref.targets import check_outputs
from segpref.types import SegprefError
from segpref.workflows.opening import beside, open_split, open_trained, part_of, prepared_for
from segpref.workflows.options import DataOptions, TrainedModel, Trust
from segpref.workflows.runs import Run, chosen

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model.

    Args:
        rows: one per volume and structure.
        patients: how many patients were scored.
    """

    rows: list[Row]
    patients: int

    @property
    def columns(self) -> list[str]:
        """The measures; those of distances name their unit."""
        return [name for name in self.rows[0] if name not in ("volume", "patient", "structure")]

    def mean(self, column: str) -> dict[str, float]:
        """Mean of a measure per structure; infinite and missing values are left out."""
        return mean_of(self.rows, column)


def evaluate(
    model: Path | str | Run,
    data: Reader | Path | str,
    *,
    part: str = "test",
    out: Path | None = None,
    **options: Any,
) -> Evaluation:
    """Score a model on labelled cases: IoU, Dice, surface distance, Hausdorff 95, surface Dice.

    Scores are on the network's grid, per patient and time point with slices stacked. Columns of
    distances name their unit: mm where the voxel size is known, voxels where it is not.

    Args:
        model: segpref's file or run folder, a trained nnU-Net folder (or one fold of it), a MONAI
            bundle, or a ``.yaml`` that describes plain weights.
        data: folder of the dataset, or its reader.
        part: on whom to measure.
        out: CSV file for one row per volume and structure.
        options: fields of :class:`DataOptions` and :class:`TrainedModel`.

    Raises:
        SegprefError: no labels, or patients that the model was trained with.
    """
    path = Path(model)
    where, opening, _ = chosen(options, DataOptions(), TrainedModel(), Trust())
    check_outputs(files=[out], folders=[where.cache])
    opened = open_trained(path, opening)
    card, reader, dataset = prepared_for(opened, data, where, Cache(where.cache))
    parts = open_split(reader, where.split or beside(path), seen=card.labelled)
    cases = part_of(dataset, parts, part).labelled()
    if not len(cases):
        raise SegprefError(f"the part {part} of {data} has no labels: nothing can be scored")
    if part != "train":
        refuse_leakage({"the model's labelled cases": card.labelled, part: cases.patients})
    whole = whole_images(opened.policies(), card.preparation, opened.mirroring)
    rows = score_model(whole, cases, surface=True, slices=card.preparation.dims == 2)
    if out is not None:
        write_csv(out, rows)
    return Evaluation(rows, len(cases.patients))
