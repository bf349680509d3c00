"""What judges have in common that change what another one says."""

from __future__ import annotations

from typing import Any

from segpref.data.dataset import Dataset
from segpref.types import Judge, PreparedJudge

__all__ = ["WrappingJudge"]


class WrappingJudge:
    """A judge with another one within, which is prepared, scores in workers and is told apart with it.

    Args:
        judge: the one within.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.needs_label = judge.needs_label

    @property
    def in_workers(self) -> bool:
        """Whether the judge within scores in worker processes, too."""
        return bool(getattr(self.judge, "in_workers", False))

    def prepare(self, dataset: Dataset) -> None:
        """Prepare the judge within."""
        if isinstance(self.judge, PreparedJudge):
            self.judge.prepare(dataset)

    def digest(self) -> str:
        """Name of what the judge within was made from; empty where it can't tell."""
        inner: Any = self.judge
        return str(inner.digest()) if hasattr(inner, "digest") else ""
