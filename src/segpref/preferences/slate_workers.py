"""Slates from their drafts, with scores: what needs no network, in worker processes if asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np

from segpref.data.patches import slates_within
from segpref.data.predictions import predict_ahead
from segpref.preferences.candidates import ProposeSlates, ScoredSlate, Scoring
from segpref.types import Case, Slate
from segpref.workers import Workers

__all__ = ["OneAhead", "SlateWorkers"]

Part = TypeVar("Part")


class _Made(NamedTuple):
    """What a worker made of one draft; no scores where the judge is not in the workers."""

    slate: Slate
    idle: list[str]
    said: tuple[np.ndarray, np.ndarray | None] | None


@dataclass(frozen=True, slots=True)
class _Work:
    """From a draft to a slate, and to its scores if the judge can be here."""

    proposals: ProposeSlates | None
    scoring: Scoring | None

    def __call__(self, draft: Any, case: Case) -> _Made:
        slate: Slate = draft
        idle: list[str] = []
        if self.proposals is not None:
            slate, idle = self.proposals.edit(draft)
            slate = slates_within([slate], [case])[0]
        return _Made(slate, idle, None if self.scoring is None else self.scoring.of(case, slate))


class SlateWorkers(AbstractContextManager["SlateWorkers"]):
    """Edits drafts into slates and scores them, image by image, in so many processes.

    The slates, scores and reports are the same for any number of processes. A judge scores in them if
    it has an attribute ``in_workers`` that is true: it can be pickled and needs no network once it is
    prepared. Any other judge scores here, when the slates are asked for.

    Args:
        proposals: edit the drafts; None where the drafts are slates already (samples, say).
        scoring: the judge, prepared for the cases.
        count: number of processes; with 0 everything is done here.

    Raises:
        SegprefError: something of the user's own can't be pickled.
    """

    def __init__(self, proposals: ProposeSlates | None, scoring: Scoring, count: int = 0) -> None:
        self._proposals, self._scoring = proposals, scoring
        there = bool(getattr(scoring.judge, "in_workers", False))
        work = _Work(proposals, scoring if there else None)
        idle = proposals is None and not there
        self.count = 0 if idle else count
        # A worker has no network: what the judge reads is predicted here.
        self._predict = there and self.count > 0
        self._workers: Workers[_Made] = Workers(self.count, work)

    def begin(
        self, cases: Sequence[Case], drafts: Sequence[Any]
    ) -> Callable[[], list[ScoredSlate]]:
        """Have these drafts edited and scored; the function that is returned waits for the slates.

        Args:
            cases: one per draft; the judge sees labels only if it declares them.
            drafts: of :meth:`~segpref.proposals.SlateProposals.drafts`, or slates.
        """
        seen = [self._scoring.seen(case) for case in cases]
        if self._predict:
            predict_ahead(self._scoring.judge, seen)
        made = self._workers.begin(list(zip(drafts, seen, strict=True)))

        def slates() -> list[ScoredSlate]:
            found = made()
            for case, one in zip(cases, found, strict=True):
                if self._proposals is not None:
                    self._proposals.report_idle(case, one.idle)
            return [
                ScoredSlate(case, one.slate, *(one.said or self._scoring.of(view, one.slate)))
                for case, view, one in zip(cases, seen, found, strict=True)
            ]

        return slates

    def close(self) -> None:
        """End the processes."""
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class OneAhead(Generic[Part]):
    """Parts in their order, of which each is begun before one waits for the part before it.

    Args:
        begin: begins a part, named by its first row; what it returns waits for the part.
        stride: rows from one part of this process to its next one.
        count: of rows; 0 to begin each part when it is its turn.
    """

    def __init__(self, begin: Callable[[int], Callable[[], Part]], stride: int, count: int) -> None:
        self._begin, self._stride, self._count = begin, stride, count
        self._begun: dict[int, Callable[[], Part]] = {}

    def __call__(self, start: int) -> Part:
        """The part that begins with this row."""
        part = self._begun.pop(start, None) or self._begin(start)
        following = start + self._stride
        if following < self._count:
            self._begun[following] = self._begin(following)
        return part()
