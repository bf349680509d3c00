"""`segpref evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from segpref.metrics import summarise_distances
from segpref.progress import console, stdout
from segpref.workflows import Evaluation
from segpref.workflows import evaluate as run
from segpref.workflows.options import DataOptions, TrainedModel

__all__ = ["EXAMPLES", "evaluate"]

EXAMPLES = """\
  segpref evaluate --data DATA --model runs/rn-dpo
  segpref evaluate --data DATA --model NNUNET/fold_0 --trust --out scores.csv
"""


def evaluate(
    model: Path,
    data: Path,
    settings: dict[str, Any],
    where: DataOptions,
    opening: TrainedModel,
    part: str = "test",
    out: Path | None = None,
) -> None:
    """Score a model on labelled cases: IoU, Dice, surface distance, Hausdorff 95, surface Dice.

    Scores are on the network's grid, per patient and time point with slices stacked. Columns of
    distances name their unit: mm where the voxel size is known, voxels where it is not.

    Args:
        model: model file or run folder of segpref, trained nnU-Net folder (or one fold of it), MONAI
            bundle, or .yaml that describes plain weights.
        data: folder of the dataset.
        settings: the resolved options.
        where: data, split and cache.
        opening: what may be opened.
        part: part of the split to measure on: train, judge, validation or test.
        out: CSV file, with one row per volume and structure.
    """
    made = run(model, data, part=part, out=out, **vars(where), **vars(opening))
    if out is not None:
        console.print(f"{out}: {len(made.rows)} rows")
    _show(made, f"{model}: {part}, {made.patients} patients")


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
