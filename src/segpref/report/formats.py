"""A table of methods as Markdown, LaTeX, CSV and for a terminal; the best mean of a column in bold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from segpref.data.csv_files import csv_lines
from segpref.report.markup import in_latex, in_markdown
from segpref.report.tables import COLUMNS, TableRow, best_of

__all__ = ["as_csv", "counted", "latex", "markdown", "markdown_grid", "rich_table"]


def markdown(rows: Sequence[TableRow], columns: Sequence[str] | None = COLUMNS) -> str:
    """The table as Markdown, with all its figures where no columns are named; the best in bold."""
    columns = columns or list(rows[0].figures)
    best = _best(rows)
    names = [row.method + _fewer(row, rows) for row in rows]
    cells = [[_cell(*row.figures[name], best.get(name)) for name in columns] for row in rows]
    lines = [
        f"| {in_markdown(name)} | {' | '.join(line)} |"
        for name, line in zip(names, cells, strict=True)
    ]
    return "\n".join([markdown_grid(("Method", *columns), ()), *lines])


def counted(counts: Mapping[str, int]) -> str:
    """Counts by reason or kind in one line, such as "5 both bad, 7 can't tell"; empty for none."""
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def markdown_grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of any text as Markdown."""
    lines = [[*map(in_markdown, columns)], ["---"] * len(columns)]
    lines += [[*map(in_markdown, row)] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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


def _fewer(row: TableRow, rows: Sequence[TableRow]) -> str:
    """Said where a row is the mean of fewer seeds than others: its mean can't be set beside theirs."""
    if row.seeds == max(other.seeds for other in rows):
        return ""
    return f" ({row.seeds} {'seed' if row.seeds == 1 else 'seeds'})"


def _best(rows: Sequence[TableRow]) -> dict[str, float]:
    columns = rows[0].figures if rows else ()
    return {name: best_of(name, [row.figures[name][0] for row in rows]) for name in columns}


def _cell(mean: float, spread: float, best: float | None) -> str:
    if math.isnan(mean):
        return "–"
    text = f"{mean:.3f}" if math.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"
    return f"**{text}**" if mean == best else text
