"""A study structure by structure: its methods on test, its judges on validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from segpref.report.page import Cell, Section, Table
from segpref.report.runs import MEASURE_NAMES, Measure
from segpref.report.tables import JUDGE_STRUCTURE_COLUMNS, TableRow, best_of, spread_text

__all__ = ["judge_sections", "method_sections"]


def method_sections(
    structures: Mapping[Measure, Sequence[TableRow]], head: str = ""
) -> list[Section]:
    """A row per structure and a column per method, for each measure.

    Args:
        structures: of :func:`~segpref.report.structure_table`, by measure.
        head: what the headings begin with.
    """
    found = []
    for measure, methods in structures.items():
        names = list(dict.fromkeys(name for one in methods for name in one.figures))
        if not names:
            continue
        title = f"{head}{MEASURE_NAMES[measure]} of each structure"
        lines = []
        for name in names:
            figures = [one.figures.get(name, (math.nan, math.nan)) for one in methods]
            best = best_of(MEASURE_NAMES[measure], [mean for mean, _ in figures])
            cells = [Cell(spread_text(*each), each[0] == best) for each in figures]
            lines.append((Cell(name), *cells))
        header = ("Structure", *(one.method for one in methods))
        text = (
            "On the test images, with the weights that were best on validation. The best mean of each "
            "row is bold; – where neither truth nor prediction has the structure, or has a surface."
        )
        found.append(
            Section(title[:1].upper() + title[1:], text, table=Table(header, tuple(lines)))
        )
    return found


def judge_sections(
    judges: Sequence[TableRow], structures: Sequence[tuple[str, TableRow]]
) -> list[Section]:
    """What each judge is worth before training, and on each structure.

    Args:
        judges: of :func:`~segpref.report.judge_table`.
        structures: of :func:`~segpref.report.judge_structure_table`, structure and judge.
    """
    found = []
    if judges:
        found.append(
            Section(
                "Judges",
                "On labelled validation images before training: mean ± standard deviation over seeds.",
                table=_judge_table(judges),
            )
        )
    if structures:
        several = len({one.method for _, one in structures}) > 1
        order = list(dict.fromkeys(name for name, _ in structures))
        rows = tuple(
            (
                name,
                *((one.method,) if several else ()),
                *(_cell(column, one) for column in JUDGE_STRUCTURE_COLUMNS),
            )
            for name, one in sorted(structures, key=lambda pair: order.index(pair[0]))
        )
        judge = ("Judge",) if several else ()
        header = ("Structure", *judge, *JUDGE_STRUCTURE_COLUMNS)
        text = (
            "What the judge's favourite gains on the structure, how often it is worse than the base's "
            "own mask, how often pairs that differ mainly in the structure are the wrong way round, "
            "how many candidates and labels lack it, and the share of slates on which the judge "
            "abstains."
        )
        found.append(Section("The judges on each structure", text, table=Table(header, rows)))
    return found


def _judge_table(judges: Sequence[TableRow]) -> Table:
    columns = list(judges[0].figures)
    best = {name: best_of(name, [row.figures[name][0] for row in judges]) for name in columns}
    lines = [
        (
            Cell(row.method),
            *(
                Cell(spread_text(*row.figures[name]), row.figures[name][0] == best[name])
                for name in columns
            ),
            Cell(str(row.seeds)),
        )
        for row in judges
    ]
    return Table(("Judge", *columns, "Seeds"), tuple(lines))


def _cell(column: str, row: TableRow) -> str:
    mean = row.figures[column][0]
    if math.isnan(mean):
        return "–"
    if column == "Abstains" and mean == 1:
        return "always"
    return f"{mean:+.3f}" if column == "Headroom" else f"{mean:.0%}"
