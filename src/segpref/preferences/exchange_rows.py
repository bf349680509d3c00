"""Rows of preferences and their masks in files that ``datasets`` reads, with TRL's column names.

===========================  ====================================================================
``preferences.jsonl``        choices between two masks: ``prompt``, ``chosen``, ``rejected``
``ratings.jsonl``            masks by themselves: ``prompt``, ``completion``, ``label``
``undecided.jsonl``          two masks of which neither is better: ``prompt``, ``first``, ``second``
``masks/ID.npy``             the masks, ``[field, *space]``, uint8, named by their content
``about.json``               the model that made them, and the cases that they are of
===========================  ====================================================================

The prompt is the id of a case; masks are named by their path in the folder. Or the tables are
Parquet (``.parquet``). All other columns say what a :class:`~segpref.preferences.Preference` does, and
``order`` is its place among all of them. A table without rows is not written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from segpref.data.cache import write_atomically
from segpref.disk import cannot_read
from segpref.extras import needed
from segpref.preferences.record import Preference
from segpref.trust import parse_json
from segpref.types import SegprefError

__all__ = [
    "FORMS",
    "Form",
    "order_of_row",
    "preference_of_row",
    "read_table",
    "row_of",
    "table_file",
    "time_of_text",
    "time_text",
    "write_table",
]

Form = Literal["jsonl", "parquet"]
FORMS: tuple[Form, ...] = ("jsonl", "parquet")

_TOLD = ("source", "field", "structure", "confidence", "rater")
_COLUMNS = {
    "preferences": {"chosen", "rejected"},
    "ratings": {"completion", "label"},
    "undecided": {"first", "second", "choice"},
}
_FIX = "export it again, or correct the row"


def row_of(
    record: Preference, order: int, path_of: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """Table and row of a record.

    Args:
        record: what was said.
        order: its place among all records.
        path_of: path of every mask in the folder, by content id.
    """
    paths = [path_of[one] for one in record.candidates]
    row: dict[str, Any] = {"order": order, "prompt": record.case}
    table = "undecided"
    if record.winner is not None and record.loser is not None:
        table = "preferences"
        row |= {"chosen": path_of[record.winner], "rejected": path_of[record.loser]}
        row |= {"margin": record.strength, "chosen_is_first": record.choice == "first"}
    elif len(paths) == 1:
        table = "ratings"
        row |= {"completion": paths[0], "label": record.choice == "accept"}
    else:
        row |= {"first": paths[0], "second": paths[1], "choice": record.choice}
    row |= {name: getattr(record, name) for name in _TOLD}
    return table, {**row, "time": None if record.time is None else time_text(record.time)}


def preference_of_row(row: Any, where: object) -> Preference:
    """The record of a row, whose masks are named by their content.

    Args:
        row: of any of the tables.
        where: file and line, for the sentence.

    Raises:
        SegprefError: other columns, or values that mean nothing.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("prompt"), str):
        raise SegprefError(f"{where} has no prompt, the id of a case: {_FIX}")
    content: dict[str, Any] = {"case": row["prompt"], "source": "votes"}
    content |= {name: row.get(name) for name in _TOLD if row.get(name) is not None}
    if row.get("time") is not None:
        content["time"] = time_of_text(row["time"])
    if _COLUMNS["preferences"] <= row.keys():
        first = row.get("chosen_is_first") is not False
        names = [row["chosen"], row["rejected"]]
        content |= {"candidates": names if first else names[::-1], "strength": row.get("margin")}
        content["choice"] = "first" if first else "second"
    elif _COLUMNS["ratings"] <= row.keys() and isinstance(row["label"], bool):
        content["candidates"] = [row["completion"]]
        content["choice"] = "accept" if row["label"] else "reject"
    elif _COLUMNS["undecided"] <= row.keys():
        content |= {"candidates": [row["first"], row["second"]], "choice": row["choice"]}
    else:
        raise SegprefError(
            f"{where} lacks TRL's columns (prompt, chosen and rejected, or prompt, completion and "
            f"label): {_FIX}"
        )
    content["candidates"] = [_id(one, where) for one in content["candidates"]]
    return Preference.from_json(content, where)


def order_of_row(row: Mapping[str, Any], place: int, where: object) -> int:
    """Place of a row among all of them; that in its file where nothing is said.

    Raises:
        SegprefError: it is no whole number.
    """
    order = row.get("order", place)
    if type(order) is not int:
        raise SegprefError(f"{where}: order is a whole number, not {order!r:.60}: {_FIX}")
    return order


def time_text(time: datetime) -> str:
    """A time in UTC, to the microsecond.

    Readers of JSON that look for times (such as that of ``datasets``, which would keep seconds or
    milliseconds of them) take it for text.
    """
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(' ')} UTC"


def time_of_text(value: Any) -> Any:
    """The ISO form of :func:`time_text`; whatever else it is comes back as it is."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.endswith(" UTC"):
        return f"{value.removesuffix(' UTC').replace(' ', 'T')}+00:00"
    return value


def _id(path: Any, where: object) -> str:
    if not isinstance(path, str):
        raise SegprefError(f"{where}: a mask is named by its path in the folder: {_FIX}")
    return path.replace("\\", "/").rpartition("/")[2].removesuffix(".npy")


def table_file(folder: Path, name: str) -> Path | None:
    """The file of a table; None where there is none.

    Raises:
        SegprefError: there is one in either form.
    """
    there = [file for form in FORMS if (file := folder / f"{name}.{form}").is_file()]
    if len(there) > 1:
        raise SegprefError(
            f"{there[0]} and {there[1].name} are there: remove the one that is not meant"
        )
    return there[0] if there else None


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], form: Form) -> None:
    """Write a table; nothing where there are no rows.

    Raises:
        SegprefError: the file can't be written, or pyarrow is needed and not installed.
    """
    if not rows:
        return
    if form == "jsonl":
        data = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
    else:
        table = needed("pyarrow", "collect").Table.from_pylist([dict(row) for row in rows])
        buffer = BytesIO()
        needed("pyarrow.parquet", "collect").write_table(table, buffer)
        data = buffer.getvalue()
    write_atomically(folder / f"{name}.{form}", data)


def read_table(file: Path) -> list[tuple[str, Any]]:
    """The rows of a table, each with the words that say where it stands.

    Raises:
        SegprefError: the file can't be read.
    """
    if file.suffix == ".parquet":
        try:
            table = needed("pyarrow.parquet", "collect").read_table(file)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise SegprefError(f"{file} is no Parquet file ({reason}): export it again") from error
        return [(f"{file}, row {n}", row) for n, row in enumerate(table.to_pylist(), 1)]
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise cannot_read(file, error) from error
    except UnicodeDecodeError as error:
        raise SegprefError(f"{file} is not UTF-8 text ({error.reason}): export it again") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{file}, line {number}"
            found.append((place, parse_json(line, place, _FIX)))
    return found


def rows_by_table(
    records: Iterable[Preference], path_of: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in _COLUMNS}
    for order, record in enumerate(records):
        name, row = row_of(record, order, path_of)
        found[name].append(row)
    return found
