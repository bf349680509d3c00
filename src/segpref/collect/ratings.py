"""Stored votes as ratings, from which agreement and reliability are measured."""

from __future__ import annotations

from collections.abc import Iterable

from segpref.collect.answers import VoteRow
from segpref.collect.choices import judged
from segpref.preferences import Rating

__all__ = ["ratings_of"]


def ratings_of(rows: Iterable[VoteRow], *, practice: bool = False) -> list[Rating]:
    """The answers that count, in the order in which they were stored.

    Answers that were taken back or superseded do not count. Questions with known answers are kept, with
    what is right.

    Args:
        rows: stored votes.
        practice: whether answers to practice questions count, too.
    """
    return [
        _rating(row)
        for row in rows
        if row.counts and row.choice != "undo" and (practice or row.pair.use != "practice")
    ]


def _rating(row: VoteRow) -> Rating:
    alone = row.pair.mode == "accept-reject"
    answer: int | str = row.choice
    if (number := judged(row.choice)) is not None:
        answer = number
    elif row.chosen is not None:
        answer = row.chosen
    return Rating(
        question=row.pair.id,
        case=row.item.case,
        patient=row.item.patient,
        rater=row.rater,
        answer=answer,
        options=2 if alone else len(row.masks),
        shown=() if alone else row.sides,
        right=row.pair.gold,
        mode=row.pair.mode,
        structure=row.pair.structure,
        repeat=row.repeat_of is not None,
        seconds=None if row.shown_ms is None else row.shown_ms / 1000,
        time=row.stored_at,
    )
