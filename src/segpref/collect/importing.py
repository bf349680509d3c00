"""Votes of another database of the same study, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select, text

from segpref.collect.answers import VoteRow
from segpref.collect.database import Database
from segpref.collect.raters import add_rater
from segpref.collect.tables import assignment, pair, rater, vote
from segpref.types import SegprefError

__all__ = ["import_votes"]


def import_votes(
    database: Database, connection: Connection, rows: Iterable[VoteRow], now: datetime
) -> int:
    """Write votes with their uuids, times, sides and assignments into a study that has none.

    Raters are added where they are missing; they get no link.

    Returns:
        How many there were.

    Raises:
        SegprefError: there are votes already, or some are about pairs that the study does not have.
    """
    votes = sorted(rows, key=lambda row: row.id)
    if connection.execute(select(assignment.c.number).limit(1)).first() is not None:
        raise SegprefError(
            f"{database.name} has votes already: import them into the empty database of a study"
        )
    known = set(connection.execute(select(pair.c.id)).scalars())
    if strange := next((row for row in votes if row.pair.id not in known), None):
        raise SegprefError(
            f"the vote {strange.uuid} is about a pair that this study does not have: import it into "
            "the study that it comes from"
        )
    found = connection.execute(select(rater.c.pseudonym, rater.c.id))
    people = {row.pseudonym: int(row.id) for row in found}
    for name in dict.fromkeys(row.rater for row in votes):
        if name not in people:
            people[name] = add_rater(connection, name, "rater", now)
    _assignments(connection, votes, people)
    for row in votes:
        connection.execute(
            insert(vote).values(
                id=row.id, uuid=row.uuid, assignment_id=row.assignment, rater_id=people[row.rater],
                choice=row.choice, confidence=row.confidence, shown_ms=row.shown_ms,
                slices_seen={axis: list(seen) for axis, seen in row.slices_seen.items()},
                window=None if row.window is None else list(row.window), voted_at=row.voted_at,
                stored_at=row.stored_at, supersedes=row.supersedes,
            )
        )  # fmt: skip
    if database.kind == "postgresql" and votes:
        connection.execute(
            text("SELECT setval(pg_get_serial_sequence('vote', 'id'), :last)"),
            {"last": votes[-1].id},
        )
    return len(votes)


def _assignments(connection: Connection, votes: Sequence[VoteRow], people: dict[str, int]) -> None:
    """What the votes are about, repeated ones before those that repeat them."""
    given: dict[str, list[VoteRow]] = {}
    for row in votes:
        given.setdefault(row.assignment, []).append(row)
    for id, rows in sorted(given.items(), key=lambda one: one[1][0].repeat_of is not None):
        first, counting = rows[0], [row.stored_at for row in rows if row.counts]
        if first.repeat_of is not None and first.repeat_of not in given:
            raise SegprefError(
                f"the vote {first.uuid} repeats one that is missing: export all votes, and import these"
            )
        connection.execute(
            insert(assignment).values(
                id=id, pair_id=first.pair.id, rater_id=people[first.rater], sides=list(first.sides),
                repeat_of=first.repeat_of, sitting=first.sitting, made_at=first.stored_at,
                expires_at=first.stored_at, image_opened_at=first.stored_at,
                masks_opened_at=first.stored_at, answered_at=max(counting, default=None),
            )
        )  # fmt: skip
