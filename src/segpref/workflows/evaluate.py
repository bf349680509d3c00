"""Scores of a model on labelled cases in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segpref.data import Cache, Reader
from segpref.data.csv_files import write_csv
from segpref.data.splits import refuse_leakage, split_beside
from segpref.inference.case_masks import CaseMasks
from segpref.inference.evaluation import Row, mean_of, score_files, score_model
from segpref.inference.windows import whole_images, whole_network
from segpref.progress import console
from segpref.report.subgroups import Subgroup, by_subgroup, read_groups
from segpref.targets import check_outputs
from segpref.types import SegprefError
from segpref.workflows.loading import open_split, open_trained, part_of, prepared_for
from segpref.workflows.options import DataOptions, TrainedModel, Trust
from segpref.workflows.runs import Run, chosen

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model.

    Args:
        rows: one per volume and structure.
        patients: how many patients were scored.
        subgroups: mean Dice of each group of patients, where groups were given.
    """

    rows: list[Row]
    patients: int
    subgroups: list[Subgroup] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The measures; those of distances name their unit."""
        grouped = {f"group_{one.column}" for one in self.subgroups}
        told = ("volume", "patient", "structure")
        return [name for name in self.rows[0] if name not in told and name not in grouped]

    def mean(self, column: str) -> dict[str, float]:
        """Mean of a measure per structure; infinite and missing values are left out."""
        return mean_of(self.rows, column)


def evaluate(
    model: Path | str | Run,
    data: Reader | Path | str,
    *,
    part: str = "test",
    out: Path | None = None,
    grid: Literal["image", "network"] = "image",
    groups: Path | None = None,
    by: Sequence[str] | None = None,
    **options: Any,
) -> Evaluation:
    """Score a model on labelled cases: IoU, Dice, surface distance, Hausdorff 95, surface Dice.

    Masks are those that :func:`predict` writes, scored on the voxels of the images' own files, per
    patient and time point with slices stacked. Labels beyond the crop of the preparation count as
    missed; ``outside_crop`` is their share. Columns of distances name their unit: mm where the voxel
    size is known, voxels where it is not.

    Args:
        model: segpref's file or run folder, a trained nnU-Net folder (or one fold of it), a MONAI
            bundle, or a ``.yaml`` that describes plain weights.
        data: folder of the dataset, or its reader.
        part: on whom to measure.
        out: CSV file for one row per volume and structure.
        grid: ``image``, or ``network`` for scores of what the network sees, as in studies and while a
            model is trained: after crop and resampling.
        groups: CSV or Parquet table with a column ``patient`` and others that patients are grouped by,
            such as sex, age or scanner; numbers with many values are cut at their quartiles.
        by: which of its columns; all where None.
        options: fields of :class:`DataOptions` and :class:`TrainedModel`.

    Raises:
        SegprefError: no labels, patients that the model was trained with, or a table that lacks what is
            asked for or contradicts itself.
    """
    path = Path(model)
    where, opening, _ = chosen(options, DataOptions(), TrainedModel(), Trust())
    if grid not in ("image", "network"):
        raise SegprefError(f"scores are on the grid of the image or the network, not {grid!r}")
    if by is not None and groups is None:
        raise SegprefError("by names columns of a table: give the table as groups, or leave by out")
    used = where.split or split_beside(path)
    check_outputs(files=[out], folders=[where.cache], read=[path, data, groups, used])
    table = None if groups is None else read_groups(Path(groups).expanduser(), by)
    opened = open_trained(path, opening)
    card, reader, dataset = prepared_for(opened, data, where, Cache(where.cache))
    parts = open_split(reader, used, seen=card.labelled)
    cases = part_of(dataset, parts, part).labelled()
    if not len(cases):
        raise SegprefError(f"the part {part} of {data} has no labels: nothing can be scored")
    if part != "train":
        refuse_leakage({"the model's labelled cases": card.labelled, part: cases.patients})
    if table is not None:
        table.check(cases.patients, Path(str(groups)))
    if grid == "network":
        whole = whole_images(opened.policies(), card.preparation, opened.mirroring)
        rows = score_model(whole, cases, surface=True, slices=card.preparation.dims == 2)
    else:
        network = whole_network(opened.policies(), card.preparation, opened.mirroring)
        rows = score_files(CaseMasks(network, card), reader.read, cases)
        _warn_of_crop(rows)
    subgroups = [] if table is None else by_subgroup(rows, table)
    if table is not None:
        rows = [table.beside(row) for row in rows]
    if out is not None:
        write_csv(out, rows)
    return Evaluation(rows, len(cases.patients), subgroups)


def _warn_of_crop(rows: list[Row]) -> None:
    shares = [float(row.get("outside_crop", 0.0)) for row in rows]
    missed = {str(row["volume"]) for row, share in zip(rows, shares, strict=True) if share > 0}
    if missed:
        console.print(
            f"The model's crop leaves out labels of {len(missed)} volumes, such as {min(missed)}, at "
            f"most {max(share for share in shares if share == share):.1%} of a structure: they count "
            "as missed (column outside_crop).",
            style="yellow",
            soft_wrap=True,
        )
