"""What the test cases say of a model before and after."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import nibabel as nib
import numpy as np

from benchmarks.nnunet.stock import TRAINER
from segpref.data import Reader
from segpref.data.cache import write_atomically
from segpref.metrics import dice, overlap_counts
from segpref.studies.tables import bootstrap_interval

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
    "each seed",
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
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def table(out: Path, methods: Sequence[str]) -> str:
    """Mean test Dice before and after, as Markdown, from the files that are there.

    Args:
        out: holds ``CONFIGURATION-SEED.csv``.
        methods: rows after that of the base.
    """
    lines = [
        f"{TRAINER}: mean Dice of structures and test cases, ± standard deviation of seeds; gains over "
        "the base with a bootstrap interval over cases, seeds averaged inside.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for configuration in ("2d", "3d_fullres"):
        seeds = [_read(file) for file in sorted(out.glob(f"{configuration}-*.csv"))]
        for views in ("mirrored", "upright"):
            of_view = [[row for row in rows if row["views"] == views] for rows in seeds]
            for model in ("base", *methods) if seeds else ():
                cells = (configuration, views, model, str(len(seeds)), *_figures(of_view, model))
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figures(seeds: Sequence[Sequence[dict[str, str]]], model: str) -> tuple[str, ...]:
    """Dice, gain, its interval, the gain of each seed, and whether masks are the same."""
    own, base = ([_by_case(rows, name) for rows in seeds] for name in (model, "base"))
    reached = _spread([mean(cases.values()) for cases in own])
    if model == "base":
        return reached, *["–"] * 4
    gains: defaultdict[str, list[float]] = defaultdict(list)
    for after, before in zip(own, base, strict=True):
        for case in after:
            gains[case].append(after[case] - before[case])
    low, high = bootstrap_interval(np.array([mean(values) for values in gains.values()]))
    each = [mean(a.values()) - mean(b.values()) for a, b in zip(own, base, strict=True)]
    told = ", ".join(f"{gain:+.3f}" for gain in each)
    same = [row["as ours"] for rows in seeds for row in rows if row["model"] == model]
    equal = "all" if {*same} == {"True"} else f"{same.count('True')} of {len(same)}"
    interval = f"{low:+.3f} to {high:+.3f}"
    return reached, _spread(each, "+"), interval, told, equal if any(same) else "–"


def _by_case(rows: Sequence[dict[str, str]], model: str) -> dict[str, float]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["model"] == model:
            found[row["case"]].append(float(row["dice"]))
    return {case: mean(values) for case, values in found.items()}


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _spread(values: Sequence[float], sign: str = "") -> str:
    return f"{mean(values):{sign}.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def _mask(path: Path) -> np.ndarray:
    """As ``[field, *space]``."""
    return np.asarray(nib.load(path).dataobj).astype(np.uint8)[None]
