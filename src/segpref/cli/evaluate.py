"""`segpref evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.table import Table

from segpref.cli.opening import beside, open_split, part_of, prepared_for
from segpref.data import Cache, Preparation
from segpref.data.csv_files import write_csv
from segpref.data.splits import refuse_leakage
from segpref.inference.evaluation import mean_of, score_model
from segpref.inference.windows import whole_images
from segpref.metrics import summarise_distances
from segpref.policies.opening import open_model
from segpref.progress import console, stdout
from segpref.targets import check_outputs
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
    trust: bool = False,
    labelled: list[str] | None = None,
    preparation: Preparation | None = None,
    cache: Path | None = None,
) -> None:
    """Score a model on labelled cases: IoU, Dice, surface distance, Hausdorff 95, surface Dice.

    Scores are on the network's grid, per patient and time point with slices stacked. Columns of
    distances name their unit: mm where the voxel size is known, voxels where it is not.

    Args:
        model: segpref's file or run folder, a trained nnU-Net folder (or one fold of it), a MONAI
            bundle, or a .yaml that describes plain weights.
        data: folder of the dataset.
        settings: the resolved options.
        data_options: passed to the reader, such as as_multilabel, patient_pattern or exclude.
        split: JSON file of the split; the model's own if left out.
        part: on whom to measure.
        out: CSV file for one row per volume and structure.
        trust: whether a model may run code that comes with it and build whatever class it names; a
            pickled nnU-Net checkpoint, an expression in a MONAI bundle and a class from elsewhere can
            do anything, so ask where it comes from.
        labelled: patients that the model was trained with, where it does not tell itself.
        preparation: how images become the input of a MONAI bundle, where its configuration does not say
            so as text.
        cache: where prepared images are kept.
    """
    check_outputs(files=[out], folders=[cache])
    opened = open_model(model, trust=trust, labelled=labelled, preparation=preparation)
    card, reader, dataset = prepared_for(opened, data, data_options, Cache(cache))
    parts = open_split(reader, split or beside(model), seen=card.labelled)
    cases = part_of(dataset, parts, part).labelled()
    if not len(cases):
        raise SegprefError(f"the part {part} of {data} has no labels: nothing can be scored")
    if part != "train":
        refuse_leakage({"the model's labelled cases": card.labelled, part: cases.patients})
    whole = whole_images(opened.policies(), card.preparation, opened.mirroring)
    rows = score_model(whole, cases, surface=True, slices=card.preparation.dims == 2)
    if out is not None:
        write_csv(out, rows)
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
