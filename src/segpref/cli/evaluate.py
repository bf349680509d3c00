"""`segpref evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from segpref.metrics import summarise_distances
from segpref.progress import console, stdout
from segpref.report.subgroups import Subgroup
from segpref.workflows import Evaluation
from segpref.workflows import evaluate as run
from segpref.workflows.options import DataOptions, TrainedModel

__all__ = ["EXAMPLES", "evaluate"]

EXAMPLES = """\
  segpref evaluate --data DATA --model runs/rn-dpo
  segpref evaluate --data DATA --model NNUNET/fold_0 --trust --out scores.csv
  segpref evaluate --data DATA --model runs/rn-dpo --groups patients.csv --by "[sex, scanner]"
"""


def evaluate(
    model: Path,
    data: Path,
    settings: dict[str, Any],
    where: DataOptions,
    opening: TrainedModel,
    part: str = "test",
    out: Path | None = None,
    grid: Literal["image", "network"] = "image",
    groups: Path | None = None,
    by: list[str] | None = None,
) -> None:
    """Score a model on labelled cases: IoU, Dice, surface distance, Hausdorff 95, surface Dice.

    Masks are those that `segpref predict` writes, scored on the voxels of the images' own files, per
    patient and time point with slices stacked. Labels beyond the crop of the preparation count as
    missed; outside_crop is their share. Columns of distances name their unit: mm where the voxel size
    is known, voxels where it is not.

    Args:
        model: model file or run folder of segpref, trained nnU-Net folder (or one fold of it), MONAI
            bundle, or .yaml that describes plain weights.
        data: folder of the dataset.
        settings: the resolved options.
        where: data, split and cache.
        opening: what may be opened.
        part: part of the split to measure on: train, judge, validation or test.
        out: CSV file, with one row per volume and structure.
        grid: grid that scores are on: image, that of the files; or network, what the network sees after
            crop and resampling, as in studies and while a model is trained.
        groups: table (CSV or Parquet) with a column patient and others that patients are grouped by,
            such as sex, age or scanner; numbers with many values are cut at their quartiles.
        by: which of its columns, "[sex, scanner]"; all if left out.
    """
    made = run(
        model, data, part=part, out=out, grid=grid, groups=groups, by=by,
        **vars(where), **vars(opening),
    )  # fmt: skip
    if out is not None:
        console.print(f"{out}: {len(made.rows)} rows")
    _show(made, f"{model}: {part}, {made.patients} patients")
    if made.subgroups:
        _show_subgroups(made.subgroups)


def _show_subgroups(found: list[Subgroup]) -> None:
    table = Table(title="Mean Dice of each group, and its 95 % interval over patients")
    for name in ("grouped by", "group", "patients", "Dice", "from", "to"):
        table.add_column(name, justify="left" if name in ("grouped by", "group") else "right")
    for one in found:
        figures = (one.mean, one.low, one.high)
        shown = ("–" if math.isnan(value) else f"{value:.3f}" for value in figures)
        table.add_row(one.column, one.group, str(one.patients), *shown)
    stdout.print(table)


def _show(made: Evaluation, title: str) -> None:
    table = Table(title=title)
    table.add_column("structure")
    for column in made.columns:
        table.add_column(column, justify="right")
    means = {column: made.mean(column) for column in made.columns}
    for structure in dict.fromkeys(str(row["structure"]) for row in made.rows):
        table.add_row(structure, *(f"{means[one][structure]:.3f}" for one in made.columns))
    overall = [[v for v in means[one].values() if not math.isnan(v)] for one in made.columns]
    table.add_row("mean", *(f"{sum(v) / len(v):.3f}" if v else "nan" for v in overall))
    stdout.print(table)
    for column in made.columns:
        if column.startswith("hd95"):
            values = np.array([float(row[column]) for row in made.rows])
            if missed := summarise_distances(values).missed:
                stdout.print(
                    f"{missed} structures were missed altogether (or drawn where there is none); "
                    "they have no distance and are left out of the distances' means."
                )
