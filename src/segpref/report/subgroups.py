"""Scores by subgroup: whether a model is as good for one scanner, sex or age as for another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segpref.data.csv_files import write_csv
from segpref.data.manifest import read_table
from segpref.report.comparison import bootstrap_interval
from segpref.types import SegprefError

__all__ = ["PatientGroups", "Subgroup", "by_subgroup", "in_order", "read_groups"]

UNKNOWN = "not stated"
_MANY = 8
"""So many values of a column of numbers are shown one by one; more are cut at their quartiles."""


@dataclass(frozen=True)
class PatientGroups:
    """What a table says of patients.

    Args:
        columns: in the order in which they are shown.
        of: by patient, the group in each column.
    """

    columns: tuple[str, ...]
    of: Mapping[str, Mapping[str, str]]

    def group(self, patient: str, column: str) -> str:
        """What is said of a patient in a column; ``not stated`` where the table lacks the patient."""
        return self.of.get(patient, {}).get(column, UNKNOWN)

    def beside(self, row: Mapping[str, str | float]) -> dict[str, str | float]:
        """A row of scores with the patient's groups in further columns, ``group_NAME``."""
        patient = str(row["patient"])
        return {**row, **{f"group_{name}": self.group(patient, name) for name in self.columns}}

    def check(self, patients: Sequence[str], path: Path) -> None:
        """Refuse a table that says nothing of anybody who is scored.

        Args:
            patients: who are scored.
            path: of the table.

        Raises:
            SegprefError: it is one.
        """
        if not patients:
            raise SegprefError(f"nobody is scored here whom {path} could group: leave groups out")
        if not self.of.keys() & set(patients):
            raise SegprefError(
                f"{path} says nothing of any patient who is scored, such as {patients[0]}: name "
                "patients as the dataset does"
            )

    def save(self, path: Path, patients: Sequence[str]) -> None:
        """Write the groups of some patients as a table that :func:`read_groups` reads."""
        rows = [
            {"patient": one, **{name: self.group(one, name) for name in self.columns}}
            for one in patients
        ]
        write_csv(path, rows, ["patient", *self.columns])


@dataclass(frozen=True)
class Subgroup:
    """The score of a group of patients.

    Args:
        column: what patients are grouped by.
        group: the value that they share; ``not stated`` where the table has none for them.
        patients: how many of them have a score.
        mean: of the patients' scores, each the mean over volumes and structures; NaN for none.
        low: 95 % percentile bootstrap interval over patients; NaN for fewer than two.
        high: its other end.
    """

    column: str
    group: str
    patients: int
    mean: float
    low: float
    high: float


def read_groups(path: Path, by: Sequence[str] | None = None) -> PatientGroups:
    """Groups of patients from a table with a column ``patient`` and others, CSV or Parquet.

    Columns of numbers with more than 8 different values are cut at their quartiles, over the patients
    in the table. A cell that is empty is not stated.

    Args:
        path: the table; a patient may have several rows, which must agree.
        by: which columns; all but ``patient`` and ``id`` where None.

    Raises:
        SegprefError: no such table or column, or rows that contradict each other.
    """
    columns, rows = read_table(path)
    if "patient" not in columns:
        raise SegprefError(
            f"{path} has no column patient (its columns: {', '.join(columns) or 'none'}): name the "
            "column of the patients so"
        )
    others = [name for name in columns if name not in ("patient", "id")]
    wanted = others if by is None else list(by)
    if absent := [name for name in wanted if name not in others]:
        raise SegprefError(
            f"{path} has no column {absent[0]} (its columns: {', '.join(columns)}): correct the name"
        )
    if not wanted:
        raise SegprefError(f"{path} has nothing but patients: add a column to group them by")
    found: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=1):
        patient = _text(row.get("patient"))
        if not patient:
            raise SegprefError(f"{path}, row {number} names no patient: add it or drop the row")
        told = {name: _text(row.get(name)) for name in wanted}
        before = found.setdefault(patient, told)
        for name, value in told.items():
            if before[name] != value:
                raise SegprefError(
                    f"{path} says of {patient} that {name} is {before[name] or UNKNOWN!r} and "
                    f"{value or UNKNOWN!r}: correct one of the rows"
                )
    for name in wanted:
        group = _grouping([row[name] for row in found.values() if row[name]])
        for row in found.values():
            row[name] = group(row[name]) if row[name] else UNKNOWN
    return PatientGroups(tuple(wanted), found)


def by_subgroup(
    rows: Sequence[Mapping[str, str | float]], groups: PatientGroups, column: str = "dice"
) -> list[Subgroup]:
    """The score of every group, in the order of columns and groups.

    Args:
        rows: one per volume and structure, with ``patient``.
        groups: of the patients; one that is in no row of the table is not stated.
        column: the score; what is not finite is left out, and a patient without any score.
    """
    scores: dict[str, list[float]] = {}
    for row in rows:
        value = float(row.get(column, math.nan))
        if math.isfinite(value):
            scores.setdefault(str(row["patient"]), []).append(value)
    found = []
    for name in groups.columns:
        members: dict[str, list[float]] = {}
        for patient, values in scores.items():
            members.setdefault(groups.group(patient, name), []).append(float(np.mean(values)))
        for group in in_order(members):
            own = np.array(members[group])
            low, high = bootstrap_interval(own)
            found.append(Subgroup(name, group, len(own), float(own.mean()), low, high))
    return found


def in_order(groups: Iterable[str]) -> list[str]:
    """Groups of a column as people list them: numbers ascend, and ``not stated`` is the last."""
    return sorted(groups, key=lambda one: (one == UNKNOWN, _order(one)))


def _text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return str(cell).strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _order(group: str) -> tuple[float, str]:
    value = _number(group.split(" ")[0])
    return (math.inf if value is None else value, group)


def _grouping(values: Sequence[str]) -> Callable[[str], str]:
    """From a cell to its group: itself, or between which quartiles a number lies."""
    numbers = [_number(one) for one in values]
    if len(set(values)) <= _MANY or None in numbers:
        return str
    edges = np.unique(
        np.quantile([one for one in numbers if one is not None], np.linspace(0, 1, 5))
    )
    return partial(_between, tuple(float(one) for one in edges))


def _between(edges: tuple[float, ...], text: str) -> str:
    value = float(text)
    place = max(1, int(np.searchsorted(edges, value)))
    return f"{edges[place - 1]:g} to {edges[place]:g}"
