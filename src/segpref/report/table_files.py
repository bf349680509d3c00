"""The tables of a study as files: ``tables.md``, ``tables.tex`` and ``tables.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segpref.data.cache import write_atomically
from segpref.report.differences import Difference
from segpref.report.formats import as_csv, latex, markdown, markdown_grid
from segpref.report.markup import in_latex, in_markdown
from segpref.report.runs import MEASURE_NAMES
from segpref.report.tables import TableRow

__all__ = ["TABLE_FILES", "TitledTable", "write_tables"]


@dataclass(frozen=True)
class TitledTable:
    """A table with its title and what can be claimed from it.

    Args:
        title: of the table.
        rows: methods, with mean and spread over seeds.
        columns: which figures are shown; all of the first row where None.
        differences: claims, as a table of their own.
        remarks: sentences.
    """

    title: str
    rows: Sequence[TableRow]
    columns: Sequence[str] | None = None
    differences: Sequence[Difference] = ()
    remarks: Sequence[str] = ()


TABLE_FILES = ("tables.md", "tables.tex", "tables.csv")
"""What :func:`write_tables` writes."""


def write_tables(folder: Path, tables: Sequence[TitledTable], head: Sequence[str] = ()) -> None:
    """Write the three files.

    Args:
        folder: where.
        tables: in the order of reading.
        head: paragraphs of Markdown before the first table.
    """
    text, tex = [*head], []
    for one in tables:
        text += [f"## {in_markdown(one.title)}", markdown(one.rows, one.columns)]
        text += [_claims(one.differences)] if one.differences else []
        text += ["\n".join(f"- {in_markdown(remark)}" for remark in one.remarks)] * bool(
            one.remarks
        )
        tex += [f"% {in_latex(one.title)}\n{latex(one.rows, one.columns)}"]
    in_csv = as_csv((one.title, one.rows) for one in tables)
    contents = ("\n\n".join(text) + "\n", "\n\n".join(tex) + "\n", in_csv)
    for name, content in zip(TABLE_FILES, contents, strict=True):
        write_atomically(folder / name, content.encode())


def _claims(differences: Sequence[Difference]) -> str:
    rows = [
        (
            f"{one.method} against {one.other}",
            MEASURE_NAMES[one.measure],
            f"{one.mean:+.3f}",
            f"{one.low:+.3f} to {one.high:+.3f}",
            f"{one.p_value:.2g}",
            str(one.patients),
            one.told_seeds,
            one.word,
        )
        for one in differences
    ]
    columns = (
        "Claim (on test)",
        "measure",
        "difference",
        "95 % interval",
        "p",
        "patients",
        "seeds",
        "verdict",
    )
    return markdown_grid(columns, rows)
