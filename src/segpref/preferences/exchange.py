"""Preferences in the columns of TRL's data sets, with ids in place of texts.

TRL's *preference* type has ``prompt``, ``chosen`` and ``rejected``, its *unpaired preference* type
``prompt``, ``completion`` and ``label``; here the prompt is the id of a case, and the others are
content ids of masks. ``margin`` is that of its reward trainer. Other columns (``field``, ``structure``)
are passed over by its trainers. A file has one JSON object a line, as ``datasets`` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segpref.data.cache import write_atomically
from segpref.disk import cannot_read
from segpref.preferences.record import Preference
from segpref.trust import parse_json
from segpref.types import SegprefError

__all__ = ["from_trl", "read_trl", "to_trl", "write_trl"]

_PAIRED = {"prompt", "chosen", "rejected"}
_UNPAIRED = {"prompt", "completion", "label"}
_BESIDES = {"margin", "field", "structure"}


def to_trl(records: Iterable[Preference], *, paired: bool = True) -> list[dict[str, Any]]:
    """Rows of TRL's columns.

    Args:
        records: the preferences.
        paired: which of TRL's types: choices between two candidates, or accepted and rejected ones;
            records of the other kind are left out, and so are ties and the like.
    """
    rows = []
    for record in records:
        row: dict[str, Any] = {"prompt": record.case}
        if paired and record.winner is not None:
            row |= {"chosen": record.winner, "rejected": record.loser, "margin": record.strength}
        elif not paired and record.choice in ("accept", "reject"):
            row |= {"completion": record.candidates[0], "label": record.choice == "accept"}
        else:
            continue
        row |= {"field": record.field, "structure": record.structure}
        rows.append({name: value for name, value in row.items() if value is not None})
    return rows


def from_trl(row: Any, source: str, where: object = "a row of TRL's columns") -> Preference:
    """The preference of a row of either type.

    Args:
        row: a mapping from column to value.
        source: whose preferences they are.
        where: file and line that it comes from, for the sentence.

    Raises:
        SegprefError: other columns, or values that mean nothing.
    """
    names = set(row) if isinstance(row, dict) else set()
    for columns in (_PAIRED, _UNPAIRED):
        if columns <= names <= columns | _BESIDES:
            break
    else:
        raise SegprefError(
            f"{where} lacks TRL's columns (prompt, chosen and rejected, or prompt, completion and "
            "label): rename them, or remove others"
        )
    content = {"case": row["prompt"], "source": source}
    if columns is _PAIRED:
        content |= {"candidates": [row["chosen"], row["rejected"]], "choice": "first"}
    elif not isinstance(row["label"], bool):
        raise SegprefError(f"{where}: label is true or false, not {row['label']!r}")
    else:
        content |= {
            "candidates": [row["completion"]],
            "choice": "accept" if row["label"] else "reject",
        }
    content["strength"] = row.get("margin")
    return Preference.from_json(
        {**content, **{n: row.get(n) for n in ("field", "structure")}}, where
    )


def write_trl(path: Path, records: Iterable[Preference], *, paired: bool = True) -> None:
    """Write rows of TRL's columns, one JSON object a line; see :func:`to_trl`."""
    lines = [json.dumps(row) + "\n" for row in to_trl(records, paired=paired)]
    write_atomically(path, "".join(lines).encode())


def read_trl(path: Path, source: str) -> list[Preference]:
    """The preferences of a file with TRL's columns, one JSON object a line.

    Raises:
        SegprefError: the file can't be read, or a line of it has not these columns.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise cannot_read(path, error) from error
    except UnicodeDecodeError as error:
        raise SegprefError(f"{path} is not UTF-8 text ({error.reason}): save it as such") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{path}, line {number}"
            row = parse_json(line, place, "correct that line, or remove it")
            found.append(from_trl(row, source, place))
    return found
