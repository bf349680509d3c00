"""Votes: stored once each, never changed, and taken back by another row."""

from __future__ import annotations

import math
import uuid as uuids
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, or_, select, update

from segpref.collect.answers import Conflict, NotAnAnswer, NotYours, VoteIn
from segpref.collect.assigning import NO_SUCH_COMPARISON
from segpref.collect.choices import ANSWERS, choices_of
from segpref.collect.contents import Pair
from segpref.collect.known_contents import Asked
from segpref.collect.rater_standing import is_held
from segpref.collect.rules import Rules
from segpref.collect.tables import assignment, rater, vote
from segpref.types import SegprefError

__all__ = [
    "answer_to",
    "check_uuid",
    "check_vote",
    "expires_soon",
    "last_vote",
    "on_assignment",
    "store_vote",
    "take_back",
]

_MOST_MS = 2**31 - 1
_MOST_SLICES = 100_000
_SOON = timedelta(minutes=1)
"""A vote that comes so shortly before its pair is given to others waits until none is being given."""

# Statements of every request are built once.
_GIVEN = (
    select(assignment, rater.c.revoked_at)
    .join(rater, rater.c.id == assignment.c.rater_id)
    .where(assignment.c.id == bindparam("number"), assignment.c.rater_id == bindparam("rater"))
)
_SAME = (
    select(vote)
    .where(or_(vote.c.uuid == bindparam("uuid"), vote.c.assignment_id == bindparam("number")))
    .order_by(vote.c.id.desc())
)
_STORE = insert(vote)
_ANSWERED = update(assignment).where(assignment.c.id == bindparam("which"))
_LATER = vote.alias("later")
_LAST = (
    select(vote.c.uuid)
    .outerjoin(_LATER, _LATER.c.supersedes == vote.c.id)
    .where(vote.c.rater_id == bindparam("rater"), vote.c.choice != "undo", _LATER.c.id.is_(None))
    .order_by(vote.c.id.desc())
    .limit(1)
)


def check_vote(told: VoteIn) -> None:
    """Refuse a vote whose values mean nothing, wherever it was sent from.

    Raises:
        SegprefError: one of its values is out of its range.
    """
    check_uuid(told.uuid)
    if told.choice not in ANSWERS:
        raise SegprefError("this choice is none that can be made")
    if told.confidence is not None and not _is_whole(told.confidence, 1, 3):
        raise SegprefError("confidence is 1, 2 or 3, or left out")
    if told.shown_ms is not None and not _is_whole(told.shown_ms, 0, _MOST_MS):
        raise SegprefError("shown_ms is a whole number of milliseconds from 0")
    _check_slices(told.slices_seen)
    if told.window is not None and not (
        len(told.window) == 2 and all(_is_number(one) for one in told.window)
    ):
        raise SegprefError("window is a centre and a width, two numbers")
    if told.voted_at is not None and told.voted_at.utcoffset() is None:
        raise SegprefError("voted_at needs a time zone, as in 2026-01-31T12:00:00+00:00")


def check_uuid(uuid: str) -> None:
    """Refuse what is no UUID, or one in another form than the usual.

    Raises:
        SegprefError: as it says.
    """
    try:
        canonical = str(uuids.UUID(uuid))
    except (ValueError, AttributeError, TypeError):
        canonical = None
    if canonical != uuid:
        raise SegprefError("a vote's uuid has the form 123e4567-e89b-42d3-a456-426614174000")


def on_assignment(connection: Connection, rater: int, number: str) -> Row[Any] | None:
    """An assignment with the time at which its rater was revoked; None where it is not the rater's."""
    return connection.execute(_GIVEN, {"number": number, "rater": rater}).one_or_none()


def expires_soon(given: Row[Any], now: datetime) -> bool:
    """Whether an assignment may be given to others while a vote on it is stored."""
    return bool(given.expires_at <= now + _SOON)


def store_vote(
    connection: Connection,
    asked: Asked,
    rater: int,
    given: Row[Any] | None,
    told: VoteIn,
    rules: Rules,
    now: datetime,
) -> bool:
    """Store a vote, or find that it is stored.

    Args:
        connection: to the database.
        asked: what the study asks.
        rater: id.
        given: the assignment that the vote is about, by :func:`on_assignment`.
        told: the vote.
        rules: how long the assignment is kept for the rater.
        now: the time.

    Returns:
        Whether it was stored before.

    Raises:
        NotYours: it is about another rater's assignment, or none.
        Conflict: its uuid has another vote, its assignment was answered, or not looked at, or was given
            to others meanwhile.
        NotAnAnswer: the choice can't be made here.
    """
    same = connection.execute(_SAME, {"uuid": told.uuid, "number": told.assignment}).all()
    before = next((row for row in same if row.uuid == told.uuid), None)
    values = _values(told)
    if before is not None:
        if before.rater_id != rater or any(
            getattr(before, name) != value for name, value in values.items()
        ):
            raise Conflict("a vote with this uuid but another content is stored: vote again")
        return True
    if given is None:
        raise NotYours(NO_SUCH_COMPARISON)
    pair = asked.pairs[given.pair_id]
    if told.choice not in choices_of(pair.mode):
        raise NotAnAnswer(
            f"{told.choice} can't be answered here: {', '.join(choices_of(pair.mode))}"
        )
    if given.answered_at is not None:
        raise Conflict("this comparison has your vote already: undo it first, or go on")
    if given.image_opened_at is None or given.masks_opened_at is None:
        raise Conflict("the image and the masks were not shown yet: wait until they are, then vote")
    if given.expires_at <= now and _went_to_others(connection, rater, given, pair, now):
        raise Conflict(
            "this comparison was given to somebody else after a long time: take the next"
        )
    last = same[0].id if same else None
    connection.execute(_STORE, {**values, "rater_id": rater, "stored_at": now, "supersedes": last})
    _answered(connection, told.assignment, now, rules, answered=True)
    return False


def take_back(connection: Connection, rater: int, uuid: str, rules: Rules, now: datetime) -> str:
    """Undo the rater's last vote: its assignment can be answered again.

    Sent twice it is the same as once, until the assignment is answered again.

    Args:
        connection: to the database.
        rater: id.
        uuid: of the last vote, or a new one, which the row that takes it back gets.
        rules: how long the assignment is kept for the rater.
        now: the time.

    Returns:
        Id of the assignment.

    Raises:
        NotYours: the rater has no vote that counts.
        Conflict: it is not the rater's last vote, or was undone and answered again.
    """
    named = connection.execute(select(vote).where(vote.c.uuid == uuid)).one_or_none()
    if named is not None:
        if named.rater_id != rater:
            raise Conflict("another vote has this uuid: try again")
        last = _last_on(connection, named.assignment_id)
        if last is not None and last.choice == "undo" and named.id in (last.id, last.supersedes):
            return str(named.assignment_id)
    counting = last_vote(connection, rater)
    if counting is None:
        raise NotYours("there is no vote of yours to undo: reload the page")
    if named is not None and counting != uuid:
        raise Conflict("only your last vote can be undone: reload the page")
    row = connection.execute(select(vote).where(vote.c.uuid == counting)).one()
    connection.execute(
        insert(vote).values(
            uuid=str(uuids.uuid4()) if named is not None else uuid, supersedes=row.id,
            assignment_id=row.assignment_id, rater_id=rater, choice="undo", slices_seen={},
            stored_at=now,
        )
    )  # fmt: skip
    _answered(connection, row.assignment_id, now, rules, answered=False)
    return str(row.assignment_id)


def last_vote(connection: Connection, rater: int) -> str | None:
    """The uuid of the rater's last vote that was not taken back."""
    return connection.execute(_LAST, {"rater": rater}).scalar_one_or_none()


def answer_to(connection: Connection, rater: int, number: str) -> str | None:
    """What the rater answered to an assignment; None where that was nothing, or was taken back."""
    last = _last_on(connection, number)
    mine = last is not None and last.rater_id == rater and last.choice != "undo"
    return str(last.choice) if last is not None and mine else None


def _went_to_others(
    connection: Connection, rater: int, given: Row[Any], pair: Pair, now: datetime
) -> bool:
    """Whether an expired pair has as many raters as it needs without this one, or this one again."""
    repeated = assignment.c.repeat_of
    others = set(
        connection.execute(
            select(assignment.c.rater_id).where(
                assignment.c.pair_id == given.pair_id,
                assignment.c.id != given.id,
                repeated.is_(None) if given.repeat_of is None else repeated == given.repeat_of,
                is_held(now),
            )
        ).scalars()
    )
    limited = pair.use == "normal" and given.repeat_of is None
    return rater in others or (limited and len(others) >= pair.votes)


def _last_on(connection: Connection, number: str) -> Row[Any] | None:
    return connection.execute(
        select(vote).where(vote.c.assignment_id == number).order_by(vote.c.id.desc()).limit(1)
    ).one_or_none()


def _answered(
    connection: Connection, number: str, now: datetime, rules: Rules, *, answered: bool
) -> None:
    values = {"answered_at": now if answered else None, "expires_at": now + rules.lease}
    connection.execute(_ANSWERED, {"which": number, **values})


def _values(told: VoteIn) -> dict[str, Any]:
    """What is stored of a vote, as it is read back."""
    return {
        "uuid": told.uuid,
        "assignment_id": told.assignment,
        "choice": told.choice,
        "confidence": told.confidence,
        "shown_ms": told.shown_ms,
        "slices_seen": {axis: [int(i) for i in seen] for axis, seen in told.slices_seen.items()},
        "window": None if told.window is None else [float(one) for one in told.window],
        "voted_at": told.voted_at,
    }


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_slices(seen: Any) -> None:
    axes = ("axial", "coronal", "sagittal")
    if not all(
        axis in axes and len(some) <= _MOST_SLICES and all(_is_whole(i, 0, _MOST_MS) for i in some)
        for axis, some in seen.items()
    ):
        raise SegprefError("slices_seen holds indices of slices for axial, coronal and sagittal")
