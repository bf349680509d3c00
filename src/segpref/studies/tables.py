"""Tables of a study: mean and spread over seeds, and bootstrap intervals for claims of better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.table import Table
from rich.text import Text
from scipy import stats

from segpref.data.csv_files import csv_lines
from segpref.inference.evaluation import mean_iou, mean_of
from segpref.studies.charts import History
from segpref.studies.markup import in_latex, in_markdown
from segpref.studies.perform import Row
from segpref.studies.recipe import Measure
from segpref.studies.results import Run

__all__ = [
    "COLUMNS",
    "GAP_CLOSED",
    "JUDGE_COLUMNS",
    "LOW_COLUMNS",
    "LOW_IS_GOOD",
    "MEASURE_NAMES",
    "NEUTRAL_COLUMNS",
    "SWEEP_COLUMNS",
    "Difference",
    "Entries",
    "TableRow",
    "as_csv",
    "bootstrap_interval",
    "difference",
    "judge_table",
    "latex",
    "markdown",
    "mean_and_spread",
    "rich_table",
    "round_table",
    "structure_table",
    "table",
]

Entries = Mapping[str, Sequence[Run]]
"""The runs of each row of a table, one per seed, by the row's name."""

LOW_IS_GOOD = ("assd",)
"""Measures of which less is better."""

MEASURE_NAMES: Mapping[Measure, str] = {"iou": "IoU", "dice": "Dice", "assd": "ASSD"}
"""What tables call them."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One method: column -> (mean, standard deviation) over seeds; NaN where it has no such figure."""

    method: str
    seeds: int
    figures: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Difference:
    """Method minus other in a test measure, paired over patients.

    Args:
        method: which is claimed to be better.
        other: than which.
        measure: in what; ``assd`` is better when lower.
        mean: difference with seeds averaged inside each patient.
        low: lower end of the 95 % bootstrap interval over patients.
        high: upper end.
        seeds_better: how many seeds have a difference of the right sign.
        seeds: of how many.
    """

    method: str
    other: str
    measure: Measure
    mean: float
    low: float
    high: float
    seeds_better: int
    seeds: int

    @property
    def better(self) -> bool:
        """Whether the interval is on the right side of zero and all seeds agree."""
        right = self.high < 0 if self.measure in LOW_IS_GOOD else self.low > 0
        return right and self.seeds_better == self.seeds


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

LOW_COLUMNS = (
    *("Drift", "HarmTop", "HarmMag", "Regret", "PairFlip", "ASSD", "Missed", "GED"),
    *("Evaluations", "Seconds", "CPU seconds"),
)
"""Columns of which less is better."""

NEUTRAL_COLUMNS = ("Empty", "Irregularity", "Pixels")
"""Columns of which neither more nor less is better."""
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
        per_seed = [_figures(run) for run in runs]
        figures = {
            column: mean_and_spread([one.get(column, math.nan) for one in per_seed])
            for column in _ALL
        }
        rows.append(TableRow(name, len(runs), figures))
    return rows


def structure_table(entries: Entries) -> list[TableRow]:
    """Test IoU of every structure, at the best validation epoch (RN-DPO, Tables 9 and 10)."""
    rows = []
    for name, runs in entries.items():
        each = [mean_of(run.test, "iou") for run in runs]
        figures = {
            structure: mean_and_spread([one[structure] for one in each]) for structure in each[0]
        }
        rows.append(TableRow(name, len(runs), figures))
    return rows


def round_table(histories: Mapping[str, Sequence[History]], epochs: int) -> list[TableRow]:
    """Share of images that gave a pair in each round of so many epochs (MAPO, Sec. 3.3.4).

    Args:
        histories: rows of ``metrics.csv`` of each seed, by the row's name; those without pairs are
            left out.
        epochs: for which slates stand.
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


def markdown(rows: Sequence[TableRow], columns: Sequence[str] | None = COLUMNS) -> str:
    """The table as Markdown, with all its figures where no columns are named; the best in bold."""
    columns = columns or list(rows[0].figures)
    best = _best(rows)
    lines = [
        "| Method | " + " | ".join(map(in_markdown, columns)) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for row in rows:
        cells = [_cell(*row.figures[column], best.get(column)) for column in columns]
        lines.append(
            f"| {in_markdown(row.method)}{_fewer(row, rows)} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def latex(rows: Sequence[TableRow], columns: Sequence[str] | None = COLUMNS) -> str:
    """The table as a LaTeX ``tabular`` with booktabs rules; the best mean of each column in bold."""
    columns = columns or list(rows[0].figures)
    best = _best(rows)
    lines = [
        r"\begin{tabular}{l" + "r" * len(columns) + "}",
        r"\toprule",
        " & ".join(("Method", *map(in_latex, columns))) + r" \\",
        r"\midrule",
    ]
    for row in rows:
        cells = [_cell(*row.figures[column], best.get(column)) for column in columns]
        cells = [rf"\textbf{{{c.strip('*')}}}" if "*" in c else c for c in cells]
        cells = [c.replace(" ± ", r" $\pm$ ").replace("–", "--") for c in cells]
        lines.append(" & ".join((in_latex(row.method) + _fewer(row, rows), *cells)) + r" \\")
    return "\n".join((*lines, r"\bottomrule", r"\end{tabular}"))


def as_csv(tables: Iterable[tuple[str, Sequence[TableRow]]]) -> str:
    """All figures of several tables, by their titles: one line per figure, unrounded enough."""
    lines: list[list[object]] = [["table", "row", "seeds", "figure", "mean", "sd"]]
    for title, rows in tables:
        for row in rows:
            for name, pair in row.figures.items():
                cells = ["" if math.isnan(value) else f"{value:.5f}" for value in pair]
                if any(cells):
                    lines.append([title, row.method, row.seeds, name, *cells])
    return csv_lines(lines)


def rich_table(
    rows: Sequence[TableRow],
    title: str,
    columns: Sequence[str] = COLUMNS,
    caption: str = "IoU, IoU last, Dice: test. The others: validation. Drift is better when lower.",
) -> Table:
    """The table for a terminal."""
    view = Table(title=title, caption=caption)
    view.add_column("Method")
    for column in columns:
        view.add_column(column, justify="right")
    best = _best(rows)
    for row in rows:
        cells = (_cell(*row.figures[column], best.get(column)) for column in columns)
        told = (Text(c.strip("*"), style="bold") if "*" in c else c for c in cells)
        view.add_row(row.method + _fewer(row, rows), *told)
    return view


def difference(
    entries: Entries,
    method: str,
    other: str,
    measure: Measure = "iou",
    resamples: int = 10_000,
) -> Difference | None:
    """Paired bootstrap over test patients, with seeds averaged inside each patient.

    Where only one of the two has a structure, the other was right not to draw it, and counts as 1 in
    IoU and Dice; distances are compared only where both have one.

    None where the two rows have no seed in common.
    """
    ours, theirs = entries[method], entries[other]
    shared = [(a, b) for a in ours for b in theirs if a.seed == b.seed]
    if not shared:
        return None
    gains = [_by_patient(a, b, measure) for a, b in shared]
    # Over the very volumes that the mean is over: two means of distances may miss other volumes.
    per_seed = [float(np.mean(list(gain.values()))) if gain else math.nan for gain in gains]
    if measure in LOW_IS_GOOD:
        per_seed = [-change for change in per_seed]
    patients = sorted(set().union(*gains))
    values = np.array(
        [np.mean([gain[name] for gain in gains if name in gain]) for name in patients]
    )
    low, high = bootstrap_interval(values, resamples)
    return Difference(
        method=method,
        other=other,
        measure=measure,
        mean=float(values.mean()),
        low=low,
        high=high,
        seeds_better=sum(gain > 0 for gain in per_seed),
        seeds=len(per_seed),
    )


def bootstrap_interval(
    values: Float[np.ndarray, " patient"], resamples: int = 10_000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; NaN for fewer than two patients."""
    if len(values) < 2:
        return math.nan, math.nan  # one patient says nothing about others
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0)
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _fewer(row: TableRow, rows: Sequence[TableRow]) -> str:
    """Said where a row is the mean of fewer seeds than others: its mean can't be set beside theirs."""
    if row.seeds == max(other.seeds for other in rows):
        return ""
    return f" ({row.seeds} {'seed' if row.seeds == 1 else 'seeds'})"


def _best(rows: Sequence[TableRow]) -> dict[str, float]:
    return {
        column: (min if column in LOW_COLUMNS else max)(
            (row.figures[column][0] for row in rows if not math.isnan(row.figures[column][0])),
            default=math.nan,
        )
        for column in (rows[0].figures if rows else ())
        if column not in NEUTRAL_COLUMNS
    }


def _figures(run: Run) -> dict[str, float]:
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
    known = [v for v in mean_of(rows, _column(rows, measure)).values() if math.isfinite(v)]
    return float(np.mean(known)) if known else math.nan


def _missed(rows: Sequence[Row]) -> float:
    """Share of infinite distances; NaN where there is no distance at all."""
    values = [float(row.get(_column(rows, "assd"), math.nan)) for row in rows]
    told = [value for value in values if not math.isnan(value)]
    return sum(math.isinf(value) for value in told) / len(told) if told else math.nan


def _column(rows: Sequence[Row], measure: Measure) -> str:
    """The measure's column; that of a distance also names its unit."""
    return next((name for name in rows[0] if name.split("_")[0] == measure), measure)


def _by_patient(ours: Run, theirs: Run, measure: Measure) -> dict[str, float]:
    column, absent = _column(ours.test, measure), math.nan if measure in LOW_IS_GOOD else 1.0
    gathered: dict[str, list[float]] = {}
    for a, b in zip(ours.test, theirs.test, strict=True):
        assert (a["volume"], a["structure"]) == (b["volume"], b["structure"])
        # Absent for one method only: it was right, the other drew what is not there.
        pair = [float(row.get(column, math.nan)) for row in (a, b)]
        if not any(math.isfinite(value) for value in pair):
            continue
        first, second = (value if math.isfinite(value) else absent for value in pair)
        if math.isfinite(first - second):
            gathered.setdefault(str(a["patient"]), []).append(first - second)
    return {name: float(np.mean(values)) for name, values in gathered.items()}


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds of the values that are known; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
    return float(np.mean(known)), spread


def _cell(mean: float, spread: float, best: float | None) -> str:
    if math.isnan(mean):
        return "–"
    text = f"{mean:.3f}" if math.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"
    return f"**{text}**" if mean == best else text
