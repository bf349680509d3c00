"""What the test cases say of a model before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import nibabel as nib
import numpy as np

from benchmarks.nnunet.stock import TRAINER
from segpref.data import Reader, read_csv, write_csv
from segpref.metrics import dice, overlap_counts
from segpref.report import Run, difference, mean_and_spread

__all__ = ["Row", "scores", "table", "write_rows"]

Row = dict[str, str | float]
_COLUMNS = (
    "configuration",
    "views",
    "model",
    "seeds",
    "Dice",
    "gain",
    "95 %",
    "above",
    "as ours",
)


def scores(reader: Reader, masks: Path, same: Path | None) -> list[Row]:
    """Dice of every structure of every case that has a mask in a folder.

    Args:
        reader: the labels.
        masks: the folder.
        same: another folder; whether a case's mask there is the very same is told where it is given.
    """
    rows: list[Row] = []
    for source in reader.sources():
        name = f"{source.id}.nii.gz"
        if not (masks / name).exists():
            continue
        mask, space = _mask(masks / name), reader.label_space
        counts = overlap_counts(mask[None], _mask(source.labels[0]), space)
        told = "" if same is None else str(np.array_equal(mask, _mask(same / name)))
        for structure, value in zip(space.structures, dice(counts)[0], strict=True):
            row = {"case": source.id, "structure": structure, "dice": float(value), "as ours": told}
            rows.append(row)
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """As CSV."""
    write_csv(path, rows)


def table(out: Path) -> str:
    """Mean test Dice before and after, as Markdown, from the files that are there.

    Args:
        out: holds ``CONFIGURATION-SEED.csv``, the base first.
    """
    lines = [
        f"{TRAINER}: mean Dice of structures and test cases, ± standard deviation of seeds; gains over "
        "the base are means over cases, with seeds averaged inside, with a bootstrap interval.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for configuration in ("2d", "3d_fullres"):
        files = sorted(out.glob(f"{configuration}-*.csv"))
        seeds = [_read(file) for file in files]
        for views in ("mirrored", "upright") if files else ():
            entries = {
                model: [_run(rows, model, views, seed) for seed, rows in enumerate(seeds)]
                for model in dict.fromkeys(str(row["model"]) for row in seeds[0])
            }
            for model in entries:
                lines.append(
                    f"| {configuration} | {views} | {' | '.join(_cells(entries, model))} |"
                )
    return "\n".join(lines) + "\n"


def _cells(entries: Mapping[str, Sequence[Run]], model: str) -> tuple[str, ...]:
    """Name, seeds, Dice, gain, its interval, seeds with a gain, and masks that are the same."""
    runs = entries[model]
    reached, spread = mean_and_spread([_dice(run) for run in runs])
    told = (model, str(len(runs)), f"{reached:.3f}" + (f" ± {spread:.3f}" if len(runs) > 1 else ""))
    gain = difference(entries, model, "base", "dice") if model != "base" else None
    if gain is None:
        return *told, *["–"] * 4
    same = [row["as ours"] for run in runs for row in run.test]
    equal = "all" if {*same} == {"True"} else f"{same.count('True')} of {len(same)}"
    interval = f"{gain.low:+.3f} to {gain.high:+.3f}"
    above = f"{gain.seeds_better} of {gain.seeds}"
    return *told, f"{gain.mean:+.3f}", interval, above, equal if any(same) else "–"


def _run(rows: Sequence[Row], model: str, views: str, seed: int) -> Run:
    test = [row for row in rows if (row["model"], row["views"]) == (model, views)]
    return Run(model, "nnU-Net", "", seed, (), None, {}, test, [])


def _dice(run: Run) -> float:
    return mean(float(row["dice"]) for row in run.test)


def _read(path: Path) -> list[Row]:
    """Every case is a patient of its own here."""
    return [{**row, "volume": row["case"], "patient": row["case"]} for row in read_csv(path)]


def _mask(path: Path) -> np.ndarray:
    """As ``[field, *space]``."""
    return np.asarray(nib.load(path).dataobj).astype(np.uint8)[None]
