"""Every run of a study as CSV, for statistics of one's own: figures, test scores and curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from segpref.data.csv_files import write_csv
from segpref.report.differences import measure_column
from segpref.report.runs import Measure, Run
from segpref.report.tables import run_figures
from segpref.training.folder import RunFolder

__all__ = ["RUN_FILES", "write_run_files"]

RUN_FILES = ("runs.csv", "scores.csv", "curves.csv")
"""What :func:`write_run_files` writes."""

_RUN = ("seed", "base", "judge", "method", "settings")


def write_run_files(folder: Path, runs: Sequence[Run], measures: Sequence[Measure]) -> None:
    """Write ``runs.csv``, ``scores.csv`` and ``curves.csv``.

    All three name each run by seed, base, judge, method and swept settings. A figure that a run does
    not have is an empty cell.

    ``runs.csv`` has one line per run: its figures on test (as in the tables, before means over seeds),
    its best validation IoU and the epoch of it, TailAvg and drift, and its folder. ``scores.csv`` has
    one line per run, test volume and structure, with the weights that were ``best`` on validation:
    what claims are made from; and one with the ``last`` ones where a run kept both. ``curves.csv`` has
    the validation IoU of every epoch, 0 being the start.

    Args:
        folder: the study's, where they go.
        runs: all that is finished; at least one.
        measures: which scores there are a column for.
    """
    histories = {id(run): _history(run) for run in runs}
    names = _columns(runs, measures)
    lines = [{**_named(run), **_figures(folder, run, histories[id(run)], names)} for run in runs]
    known = (*_RUN, "val_iou_peak", "peak_epoch", *names.values(), "folder")
    write_csv(folder / "runs.csv", lines, known)
    scores = [{**_named(run), **row} for run in runs for row in _scores(run, measures)]
    columns = [measure_column(runs[0].test, one) for one in measures]
    known = (*_RUN, "weights", "patient", "volume", "structure", *columns)
    write_csv(folder / "scores.csv", scores, known)
    curves = [
        {**_named(run), "epoch": epoch, "val_iou": value}
        for run in runs
        for epoch, value in histories[id(run)].items()
    ]
    write_csv(folder / "curves.csv", curves, [*_RUN, "epoch", "val_iou"])


def _columns(runs: Sequence[Run], measures: Sequence[Measure]) -> Mapping[str, str]:
    """Figures of the tables that ``runs.csv`` has, too, with the columns' names there."""
    found = {"IoU": "test_iou", "IoU last": "test_iou_last", "Dice": "test_dice"}
    if "assd" in measures:
        # The unit is in the name.
        found["ASSD"] = f"test_{measure_column(runs[0].test, 'assd')}"
        found["Missed"] = "test_missed"
    return {**found, "TailAvg": "tail_avg", "Drift": "drift"}


def _named(run: Run) -> dict[str, object]:
    settings = ", ".join(f"{key}={value}" for key, value in run.changes)
    return dict(zip(_RUN, (run.seed, run.base, run.judge, run.method, settings), strict=True))


def _history(run: Run) -> dict[int, float]:
    """Validation IoU by epoch; of a model that was trained elsewhere, and of Select-best, nothing."""
    if run.folder is None or not RunFolder(run.folder).metrics.exists():
        return {}
    rows = RunFolder(run.folder).read_metrics()
    return {int(row["epoch"]): row["val_iou"] for row in rows if "val_iou" in row}


def _figures(
    folder: Path, run: Run, history: Mapping[int, float], names: Mapping[str, str]
) -> dict[str, object]:
    figures = run_figures(run)
    found: dict[str, object] = {
        name: figures[key]
        for key, name in names.items()
        if not math.isnan(figures.get(key, math.nan))
    }
    if trained := {epoch: value for epoch, value in history.items() if epoch}:
        best = max(trained, key=trained.__getitem__)
        found |= {"val_iou_peak": trained[best], "peak_epoch": best}
    if run.folder is not None:
        found["folder"] = run.folder.relative_to(folder).as_posix()
    return found


def _scores(run: Run, measures: Sequence[Measure]) -> Iterator[dict[str, object]]:
    """Lines of ``scores.csv``; without a score where neither truth nor mask has the structure."""
    for weights, rows in (("best", run.test), ("last", run.test_last)):
        for row in rows:
            columns = [measure_column(rows, one) for one in measures]
            known = [name for name in columns if not math.isnan(float(row.get(name, math.nan)))]
            named = {name: row[name] for name in ("patient", "volume", "structure", *known)}
            yield {"weights": weights, **named}
