"""`segpref collect report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from segpref.judges import NamedJudge
from segpref.progress import stdout
from segpref.report.collect_data import CollectFigures
from segpref.report.collect_more import more_votes
from segpref.report.collect_page import told
from segpref.workflows import report_study
from segpref.workflows.options import DataOptions, TrainedModel

__all__ = ["EXAMPLES", "POSITIONAL", "collect_report"]

POSITIONAL = ("study",)

EXAMPLES = """\
  segpref collect report study/
  segpref collect report study/ --out reports/monday
  segpref collect report study/ --judge runs/judge --data DATA
  segpref collect report study/ --database postgresql://segpref@db/votes
"""


def collect_report(
    study: Path,
    settings: dict[str, Any],
    where: DataOptions,
    opening: TrainedModel,
    judge: NamedJudge | list[str] | str | None = None,
    data: Path | None = None,
    database: str | None = None,
    out: Path | None = None,
    resamples: int = 1000,
) -> None:
    """Write who said what in a study of votes, how reliably, and what it says of masks and judges.

    Args:
        study: folder of the study.
        settings: the resolved options.
        where: data and cache.
        opening: what may be opened.
        judge: an automatic judge that raters are compared with, named as for segpref align, or several,
            "[A, B]"; only the one that the study was made with if left out.
        data: folder of the dataset that the study was made of, which these judges need.
        database: where its votes are, if not in the folder: a file or a postgresql:// URL.
        out: folder for report.html, report.json and the tables; the study's if left out.
        resamples: how often images and patients are drawn for intervals.
    """
    judges = judge if isinstance(judge, list) else [] if judge is None else [judge]
    result = report_study(
        study, database=database, out=out, judges=judges, data=data, resamples=resamples,
        **vars(where), **vars(opening),
    )  # fmt: skip
    stdout.print(result.page.verdict, highlight=False)
    if result.figures.raters:
        stdout.print(_raters(result.figures))
    for warning in result.page.warnings:
        stdout.print(warning, style="yellow", highlight=False)
    if more := more_votes(result.precision):
        stdout.print(more, highlight=False)
    stdout.print(f"Report: {result.folder / 'report.html'}", highlight=False, soft_wrap=True)


def _raters(found: CollectFigures) -> Table:
    table = Table(title="Raters (95 % intervals)")
    for column in (
        "rater",
        "votes",
        "flip rate",
        "same on repeats",
        "known right",
        "left",
        "seconds",
    ):
        table.add_column(column, justify="left" if column == "rater" else "right")
    for name, one in found.raters.items():
        trust = "–" if one.reliability is None else told(one.reliability.flip_rate)
        seconds = f"{one.times.median:.1f}" if one.times.count else "–"
        table.add_row(
            name,
            str(one.votes),
            trust,
            told(one.repeats.same),
            told(one.gold),
            told(one.side),
            seconds,
        )
    return table
