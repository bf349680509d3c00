"""Stored votes with everything that is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from segpref.collect.answers import VoteRow
from segpref.collect.choices import place_of
from segpref.collect.contents_rows import select_contents
from segpref.collect.tables import assignment, rater, vote

__all__ = ["chosen_mask", "vote_rows"]


def chosen_mask(choice: str, sides: Sequence[int]) -> int | None:
    """Index of the mask that is said to be better; None where none is.

    Args:
        choice: as seen on the screen.
        sides: for each place on the screen, the index of its mask.
    """
    place = place_of(choice)
    return None if place is None else sides[place]


def vote_rows(connection: Connection) -> Iterator[VoteRow]:
    """All votes, in the order in which they were stored."""
    contents = select_contents(connection)
    items = {one.id: one for one in contents.items}
    masks = {one.id: one for one in contents.masks}
    pairs = {one.id: one for one in contents.pairs}
    later = vote.alias("later")
    found = connection.execute(
        select(
            vote,
            rater.c.pseudonym,
            assignment.c.pair_id,
            assignment.c.sides,
            assignment.c.repeat_of,
            assignment.c.sitting,
            later.c.id.label("superseded_by"),
        )
        .join(rater, rater.c.id == vote.c.rater_id)
        .join(assignment, assignment.c.id == vote.c.assignment_id)
        .outerjoin(later, later.c.supersedes == vote.c.id)
        .order_by(vote.c.id)
    )
    for row in found:
        asked = pairs[row.pair_id]
        yield VoteRow(
            pair=asked,
            item=items[asked.item],
            masks=tuple(masks[one] for one in asked.masks),
            **_told(row),
        )


def _told(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "uuid": row.uuid,
        "rater": row.pseudonym,
        "sides": tuple(row.sides),
        "assignment": row.assignment_id,
        "repeat_of": row.repeat_of,
        "choice": row.choice,
        "chosen": chosen_mask(row.choice, row.sides),
        "confidence": row.confidence,
        "shown_ms": row.shown_ms,
        "slices_seen": row.slices_seen,
        "stored_at": row.stored_at,
        "supersedes": row.supersedes,
        "sitting": row.sitting,
        "window": None if row.window is None else tuple(row.window),
        "voted_at": row.voted_at,
        "counts": row.choice != "undo" and row.superseded_by is None,
    }
