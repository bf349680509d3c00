"""What a report reads of a run: its settings, its summary and its test scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from segpref.data.csv_files import read_csv
from segpref.inference.evaluation import mean_iou

__all__ = [
    "BASE",
    "LOW_IS_GOOD",
    "MEASURE_NAMES",
    "SELECT_BEST",
    "Change",
    "Entries",
    "Measure",
    "Row",
    "Run",
    "label",
    "read_scores",
]

BASE = "Base"
SELECT_BEST = "Select-best"

Change: TypeAlias = tuple[str, Any]
"""A setting of a sweep and its value, such as ``("objective.beta", 1.5)``."""

Measure: TypeAlias = Literal["iou", "dice", "assd"]
"""What methods are compared in, on test."""

LOW_IS_GOOD = ("assd",)
"""Measures of which less is better."""

MEASURE_NAMES: Mapping[Measure, str] = {"iou": "IoU", "dice": "Dice", "assd": "ASSD"}
"""What tables call them."""

Row: TypeAlias = dict[str, str | float]
"""Scores of one structure of one volume."""


@dataclass(frozen=True, slots=True)
class Run:
    """One method with one seed.

    Args:
        method: its name; :data:`BASE` for the base itself, :data:`SELECT_BEST` for the judge's
            favourite candidates of the base.
        base: name of the base.
        judge: name of the judge; empty for the base itself.
        seed: of everything that was drawn.
        changes: settings that differ from the recipe's.
        folder: of its training; None for Select-best, which trains nothing.
        summary: the training's figures.
        test: rows of the checkpoint with the best validation IoU.
        test_last: rows of the final weights; empty where there are none.
    """

    method: str
    base: str
    judge: str
    seed: int
    changes: tuple[Change, ...]
    folder: Path | None
    summary: Mapping[str, Any]
    test: Sequence[Row]
    test_last: Sequence[Row]

    @property
    def iou(self) -> float:
        """Mean test IoU."""
        return mean_iou(self.test)


Entries: TypeAlias = Mapping[str, Sequence[Run]]
"""The runs of each row of a table, one per seed, by the row's name."""


def label(method: str, changes: Sequence[Change]) -> str:
    """What a table calls a method with changed settings."""
    told = [f"{key.rpartition('.')[2].replace('_', ' ')} {_told(value)}" for key, value in changes]
    return ", ".join((method, *told))


def _told(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_scores(path: Path) -> list[Row]:
    """Scores as they were written, numbers as such."""
    return [_typed(row) for row in read_csv(path)]


def _typed(row: Mapping[str, str]) -> Row:
    names = ("volume", "patient", "structure")
    return {key: value if key in names else float(value) for key, value in row.items()}
