"""The one way in which CSV files are written and read back, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segpref.data.cache import write_atomically

__all__ = ["csv_lines", "csv_text", "read_csv", "write_csv"]

_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?%?|inf|nan)", re.IGNORECASE | re.ASCII)
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that a spreadsheet may take for a formula; quotes, so that it can be read back."""


def csv_lines(lines: Iterable[Sequence[object]]) -> str:
    """CSV of lines of cells.

    A text that a spreadsheet would run as a formula (it begins with ``=``, ``+``, ``-``, ``@``, a tab
    or a line break and is no number) gets an apostrophe in front, which :func:`read_csv` takes away.
    """
    # Names of files may hold halves of characters, which can't be written.
    return "".join(map(_line, lines)).encode(errors="backslashreplace").decode()


def csv_text(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> str:
    """CSV of rows by column, with a header; a row may lack columns.

    Args:
        rows: at least one where no columns are given.
        columns: in their order; those of the first row where None.
    """
    names = list(rows[0]) if columns is None else columns
    if strange := {name for row in rows for name in row} - set(names):
        raise ValueError(f"rows with columns that are not asked for: {sorted(strange)}")
    return csv_lines([names, *([row.get(name, "") for name in names] for row in rows)])


def write_csv(
    path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None
) -> None:
    """Write :func:`csv_text` atomically."""
    write_atomically(path, csv_text(rows, columns).encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of such a file.

    Raises:
        OSError: it can't be read.
        ValueError: it is no CSV, a row has more or fewer cells than the header, or its end is cut off.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        text = file.read()
    # All that is written ends its last line: a number that lost its last digits is a number, too.
    if text and not text.endswith(("\n", "\r")):
        raise ValueError("its last line is cut off")
    try:
        parsed = csv.reader(io.StringIO(text, newline=""))
        lines = [[_original(cell) for cell in line] for line in parsed if line]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if not lines:
        return []
    names, *rows = lines
    return [dict(zip(names, row, strict=True)) for row in rows]


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    # Only what is part of its line ends does csv put into quotes, and a cell may hold either.
    csv.writer(text, lineterminator="\r\n").writerow([_safe(cell) for cell in cells])
    return text.getvalue().removesuffix("\r\n") + "\n"


def _safe(cell: object) -> object:
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def _original(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
