"""Tables of a comparison: mean and spread over seeds, and bootstrap intervals for claims of better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from rich.table import Table
from scipy import stats

from segpref.inference.evaluation import mean_iou, mean_of
from segpref.studies.comparison import Comparison, Run

__all__ = ["COLUMNS", "Difference", "TableRow", "difference", "markdown", "rich_table", "table"]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One method: column -> (mean, standard deviation) over seeds; NaN where it has no such figure."""

    method: str
    seeds: int
    figures: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Difference:
    """Method minus other in test IoU, paired over patients.

    Args:
        method: which is claimed to be better.
        other: than which.
        mean: difference with seeds averaged inside each patient.
        low: lower end of the 95 % bootstrap interval over patients.
        high: upper end.
        seeds_above: how many seeds have a positive difference.
        seeds: of how many.
    """

    method: str
    other: str
    mean: float
    low: float
    high: float
    seeds_above: int
    seeds: int

    @property
    def better(self) -> bool:
        """Whether the interval is above zero and all seeds agree."""
        return self.low > 0 and self.seeds_above == self.seeds


COLUMNS = ("IoU", "IoU last", "TailAvg", "Drift", "Dice")


def table(comparison: Comparison) -> list[TableRow]:
    """IoU (test, at the best validation epoch), last weights, TailAvg and drift (validation), Dice."""
    rows = []
    for method in comparison.methods:
        runs = comparison.of(method)
        per_seed = [_figures(run) for run in runs]
        figures = {
            column: _mean_and_spread([one.get(column, math.nan) for one in per_seed])
            for column in COLUMNS
        }
        rows.append(TableRow(method, len(runs), figures))
    return rows


def markdown(rows: Sequence[TableRow]) -> str:
    """The table as Markdown; the best mean of each column in bold."""
    best = _best(rows)
    lines = ["| Method | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = [_cell(*row.figures[column], best[column]) for column in COLUMNS]
        lines.append(f"| {row.method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rich_table(rows: Sequence[TableRow], title: str) -> Table:
    """The table for a terminal."""
    view = Table(
        title=title,
        caption="IoU, IoU last, Dice: test. TailAvg, Drift: validation. Drift is better when lower.",
    )
    view.add_column("Method")
    for column in COLUMNS:
        view.add_column(column, justify="right")
    best = _best(rows)
    for row in rows:
        cells = (_cell(*row.figures[column], best[column]) for column in COLUMNS)
        view.add_row(row.method, *(f"[bold]{c.strip('*')}[/]" if "*" in c else c for c in cells))
    return view


def difference(
    comparison: Comparison, method: str, other: str, resamples: int = 10_000
) -> Difference:
    """Paired bootstrap over test patients, with seeds averaged inside each patient."""
    ours, theirs = comparison.of(method), comparison.of(other)
    shared = [(a, b) for a in ours for b in theirs if a.seed == b.seed]
    per_seed = [mean_iou(a.test) - mean_iou(b.test) for a, b in shared]
    gains = [_by_patient(a, b) for a, b in shared]
    patients = sorted(set().union(*gains))
    values = np.array(
        [np.mean([gain[name] for gain in gains if name in gain]) for name in patients]
    )
    low, high = _interval(values, resamples)
    return Difference(
        method=method,
        other=other,
        mean=float(values.mean()),
        low=low,
        high=high,
        seeds_above=sum(gain > 0 for gain in per_seed),
        seeds=len(per_seed),
    )


def _interval(values: Float[np.ndarray, " patient"], resamples: int) -> tuple[float, float]:
    if len(values) < 2:
        return math.nan, math.nan  # one patient says nothing about others
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0)
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _best(rows: Sequence[TableRow]) -> dict[str, float]:
    return {
        column: (min if column == "Drift" else max)(
            (row.figures[column][0] for row in rows if not math.isnan(row.figures[column][0])),
            default=math.nan,
        )
        for column in COLUMNS
    }


def _figures(run: Run) -> dict[str, float]:
    figures = {
        "IoU": mean_iou(run.test),
        "Dice": float(np.nanmean(list(mean_of(run.test, "dice").values()))),
    }
    if run.test_last:
        figures["IoU last"] = mean_iou(run.test_last)
    if "tail_avg" in run.summary:
        figures |= {"TailAvg": run.summary["tail_avg"], "Drift": run.summary["drift"]}
    return figures


def _by_patient(ours: Run, theirs: Run) -> dict[str, float]:
    gathered: dict[str, list[float]] = {}
    for a, b in zip(ours.test, theirs.test, strict=True):
        assert (a["volume"], a["structure"]) == (b["volume"], b["structure"])
        # Absent for one method only: it was right, the other drew what is not there.
        pair = [float(a["iou"]), float(b["iou"])]
        if all(math.isnan(value) for value in pair):
            continue
        first, second = (1.0 if math.isnan(value) else value for value in pair)
        gathered.setdefault(str(a["patient"]), []).append(first - second)
    return {name: float(np.mean(values)) for name, values in gathered.items()}


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
    return float(np.mean(known)), spread


def _cell(mean: float, spread: float, best: float) -> str:
    if math.isnan(mean):
        return "–"
    text = f"{mean:.3f}" if math.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"
    return f"**{text}**" if mean == best else text
