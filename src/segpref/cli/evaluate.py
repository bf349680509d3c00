"""`segpref evaluate`."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from rich.table import Table

from segpref.cli.opening import open_split, part_of, prepared_for
from segpref.data import Cache
from segpref.data.cache import write_atomically
from segpref.data.splits import refuse_leakage
from segpref.inference.evaluation import mean_of, score_model
from segpref.metrics import summarise_distances
from segpref.policies import load_model
from segpref.progress import console, stdout
from segpref.types import SegprefError

__all__ = ["evaluate"]


def evaluate(
    model: Path,
    data: Path,
    settings: dict[str, Any],
    data_options: dict[str, Any] | None = None,
    split: Path | None = None,
    part: str = "test",
    out: Path | None = None,
    cache: Path | None = None,
) -> None:
    """Score a model on labelled cases: IoU, Dice, surface distance, Hausdorff 95, surface Dice.

    Scores are on the network's grid, per patient and time point with slices stacked. Columns of
    distances name their unit: mm where the voxel size is known, voxels where it is not.

    Args:
        model: file or run folder.
        data: folder of the dataset.
        settings: the resolved options.
        data_options: passed to the reader, such as as_multilabel, patient_pattern or exclude.
        split: JSON file of the split; the model's own if left out.
        part: on whom to measure.
        out: CSV file for one row per volume and structure.
        cache: where prepared images are kept.
    """
    card, reader, dataset = prepared_for(model, data, data_options, Cache(cache))
    beside = (model if model.is_dir() else model.parent) / "split.json"
    parts = open_split(reader, split or (beside if beside.exists() else None))
    cases = part_of(dataset, parts, part).labelled()
    if not len(cases):
        raise SegprefError(f"the part {part} of {data} has no labels: nothing can be scored")
    if part != "train":
        refuse_leakage({"the model's labelled cases": card.labelled, part: cases.patients})
    policy, _ = load_model(model)
    rows = score_model(policy, cases, surface=True, slices=card.preparation.dims == 2)
    if out is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(out, text.getvalue().encode())
        console.print(f"{out}: {len(rows)} rows")
    _show(rows, f"{model}: {part}, {len(cases.patients)} patients")


def _show(rows: list[dict[str, str | float]], title: str) -> None:
    columns = [name for name in rows[0] if name not in ("volume", "patient", "structure")]
    table = Table(title=title)
    table.add_column("structure")
    for column in columns:
        table.add_column(column, justify="right")
    means = {column: mean_of(rows, column) for column in columns}
    for structure in dict.fromkeys(str(row["structure"]) for row in rows):
        table.add_row(structure, *(f"{means[column][structure]:.3f}" for column in columns))
    overall = [[v for v in means[column].values() if not math.isnan(v)] for column in columns]
    table.add_row("mean", *(f"{sum(v) / len(v):.3f}" if v else "nan" for v in overall))
    stdout.print(table)
    for column in columns:
        if column.startswith("hd95"):
            import numpy as np

            missed = summarise_distances(np.array([float(row[column]) for row in rows])).missed
            if missed:
                stdout.print(
                    f"{missed} structures were missed altogether (or drawn where there is none); "
                    "they have no distance and are left out of the distances' means."
                )
