"""Tables of methods: mean and spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpref.inference.evaluation import mean_iou, mean_of
from segpref.report.charts import History
from segpref.report.differences import measure_column
from segpref.report.runs import Entries, Measure, Row, Run

__all__ = [
    "COLUMNS",
    "GAP_CLOSED",
    "JUDGE_COLUMNS",
    "JUDGE_STRUCTURE_COLUMNS",
    "LOW_COLUMNS",
    "NEUTRAL_COLUMNS",
    "SWEEP_COLUMNS",
    "TableRow",
    "best_of",
    "judge_structure_table",
    "judge_table",
    "mean_and_spread",
    "round_table",
    "run_figures",
    "spread_text",
    "structure_table",
    "table",
]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One method: column -> (mean, standard deviation) over seeds; NaN where it has no such figure."""

    method: str
    seeds: int
    figures: Mapping[str, tuple[float, float]]


COLUMNS = ("IoU", "IoU last", "TailAvg", "Drift", "Dice")

GAP_CLOSED = "Gap closed"
"""(method - base) / (RN-DPO with the oracle as judge - base), in means of test IoU."""

SWEEP_COLUMNS = ("Score", "Peak", "TailAvg", "Drift")
"""What settings are chosen by, all on validation; Score is the mean of peak and TailAvg."""

JUDGE_COLUMNS = {
    "HarmTop": "harm_top",
    "HarmMag": "harm_mag",
    "Headroom": "headroom",
    "Regret": "regret",
    "PairFlip": "pair_flip",
    "Kendall": "kendall",
}
"""Columns of the table of judges, and their names in an audit."""

JUDGE_STRUCTURE_COLUMNS = {
    "Headroom": "headroom",
    "HarmTop": "harm_top",
    "PairFlip": "pair_flip",
    "Empty candidates": "empty",
    "Empty labels": "empty_truth",
    "Abstains": "abstained",
}
"""Columns of the table of judges and structures, and their names in an audit."""

LOW_COLUMNS = (
    *("Drift", "HarmTop", "HarmMag", "Regret", "PairFlip", "ASSD", "Missed", "GED"),
    *("Evaluations", "Passes", "Seconds", "CPU seconds", "Milliseconds", "CPU milliseconds"),
)
"""Columns of which less is better."""

NEUTRAL_COLUMNS = (
    *("Empty", "Different", "Irregularity", "Pixels"),
    *("Empty candidates", "Empty labels", "Abstains"),
)
"""Columns of which neither more nor less is better."""


def best_of(column: str, values: Sequence[float]) -> float:
    """The best of a column, which is set in bold; NaN where none is.

    None is the best where more and less are as good, where all that is shown is the same, such as a
    column of zeros, where there is one row alone, or where nothing is known.
    """
    if len(values) == 1:
        return math.nan
    known = [value for value in values if not math.isnan(value)]
    shown = {round(value, 3) for value in known}
    if column in NEUTRAL_COLUMNS or not known or shown == {0.0} or len(known) > len(shown) == 1:
        return math.nan
    return min(known) if column in LOW_COLUMNS else max(known)


_ALL = tuple(dict.fromkeys((*COLUMNS, "ASSD", "Missed", *SWEEP_COLUMNS)))


def table(entries: Entries) -> list[TableRow]:
    """IoU, IoU last, Dice and ASSD on test (at the best validation epoch, and the last weights);
    TailAvg, Drift, Peak and Score on validation.

    ASSD is the mean of what has a distance. ``Missed`` is the share of volumes and structures that have
    none because only one of truth and prediction has the structure: without it, ASSD would reward
    missing. Of stacked slices the distance is a mean over those that have one, and misses among them
    are not counted.
    """
    rows = []
    for name, runs in entries.items():
        per_seed = [run_figures(run) for run in runs]
        figures = {
            column: mean_and_spread([one.get(column, math.nan) for one in per_seed])
            for column in _ALL
        }
        rows.append(TableRow(name, len(runs), figures))
    return rows


def structure_table(entries: Entries, measure: Measure = "iou") -> list[TableRow]:
    """Every structure on test, at the best validation epoch (RN-DPO, Tables 9 and 10).

    Args:
        entries: the runs of each row.
        measure: IoU, Dice, or ASSD, which is the mean of what has a distance.
    """
    rows = []
    for name, runs in entries.items():
        each = [mean_of(run.test, measure_column(run.test, measure)) for run in runs]
        figures = {
            structure: mean_and_spread([one.get(structure, math.nan) for one in each])
            for structure in dict.fromkeys(name for one in each for name in one)
        }
        rows.append(TableRow(name, len(runs), figures))
    return rows


def round_table(histories: Mapping[str, Sequence[History]], epochs: int) -> list[TableRow]:
    """Share of images that gave a pair in each round of so many epochs (MAPO, Sec. 3.3.4).

    Args:
        histories: rows of ``metrics.csv`` of each seed, by the row's name; those without pairs are
            left out.
        epochs: how long slates are kept.
    """
    rows = []
    for name, runs in histories.items():
        shares = [
            np.array([row.get("images_with_pair", math.nan) for row in history[1:]])
            for history in runs
        ]
        if not shares or any(np.isnan(share).all() for share in shares):
            continue
        starts = range(0, min(len(share) for share in shares), epochs)
        figures = {
            f"Round {number}": mean_and_spread(
                [float(np.nanmean(share[start : start + epochs])) for share in shares]
            )
            for number, start in enumerate(starts, start=1)
        }
        rows.append(TableRow(name, len(runs), figures))
    return rows


def judge_table(audits: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[TableRow]:
    """A judge's diagnostics per regime, from the audits of its seeds (RN-DPO, Table 11)."""
    return [
        TableRow(
            name,
            len(found),
            {
                column: mean_and_spread([one["judge"][key] for one in found])
                for column, key in JUDGE_COLUMNS.items()
            },
        )
        for name, found in audits.items()
    ]


def judge_structure_table(
    audits: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[tuple[str, TableRow]]:
    """A judge on each structure, as structure and row, from the audits of its seeds.

    *Abstains* is a share of the slates in which truth or a candidate has the structure; 1 where the
    judge never draws it. Audits of earlier versions, which know no structures, are left out.
    """
    found = []
    for name, seeds in audits.items():
        known = [one for one in seeds if one.get("structures")]
        for number, first in enumerate(known[0]["structures"] if known else ()):
            rows = [one["structures"][number] for one in known]
            figures = {
                column: mean_and_spread(
                    [
                        _abstained(row, one.get("abstains_on", ()))
                        if key == "abstained"
                        else math.nan
                        if row[key] is None
                        else float(row[key])
                        for row, one in zip(rows, known, strict=True)
                    ]
                )
                for column, key in JUDGE_STRUCTURE_COLUMNS.items()
            }
            found.append((str(first["structure"]), TableRow(name, len(known), figures)))
    return found


def _abstained(row: Mapping[str, Any], silent: Sequence[str]) -> float:
    if row["structure"] in silent:
        return 1.0
    slates = row["slates"] + row["abstained"]
    return row["abstained"] / slates if slates else math.nan


def run_figures(run: Run) -> dict[str, float]:
    """What :func:`table` shows of one run; without what it does not have."""
    figures = {
        "IoU": run.iou,
        "Dice": _mean(run.test, "dice"),
        "ASSD": _mean(run.test, "assd"),
        "Missed": _missed(run.test),
    }
    if run.test_last:
        figures["IoU last"] = mean_iou(run.test_last)
    if "tail_avg" in run.summary:
        peak, tail = run.summary["val_iou_peak"], run.summary["tail_avg"]
        figures |= {"TailAvg": tail, "Drift": run.summary["drift"]}
        figures |= {"Peak": peak, "Score": (peak + tail) / 2}
    return figures


def _mean(rows: Sequence[Row], measure: Measure) -> float:
    """Over volumes, then over structures; NaN where nothing has it."""
    known = [v for v in mean_of(rows, measure_column(rows, measure)).values() if math.isfinite(v)]
    return float(np.mean(known)) if known else math.nan


def _missed(rows: Sequence[Row]) -> float:
    """Share of infinite distances; NaN where there is no distance at all."""
    values = [float(row.get(measure_column(rows, "assd"), math.nan)) for row in rows]
    valid = [value for value in values if not math.isnan(value)]
    return sum(math.isinf(value) for value in valid) / len(valid) if valid else math.nan


def spread_text(mean: float, spread: float) -> str:
    """Mean ± standard deviation, as tables show it."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.3f}" if math.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds of the values that are known; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
    return float(np.mean(known)), spread
