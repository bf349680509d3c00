"""Which pair a rater gets next, and which side each mask is shown on."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, update

from segpref.collect.answers import Assignment, NotYours, Progress
from segpref.collect.contents_rows import items_of, masks_of, pairs_of
from segpref.collect.rules import Rules
from segpref.collect.tables import assignment, pair

__all__ = [
    "Standing",
    "assignment_of",
    "draw",
    "is_held",
    "open_assignment",
    "progress_of",
    "standing_of",
    "was_opened",
]

_NOT_YOURS = "there is no such comparison of yours: reload the page"
_MOST_LIKELY = 0.5
"""Of what lags behind, such as repeats when a sitting begins, with others in between."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a rater has answered, and which pairs there are still.

    Args:
        answered: assignments that were answered, without practice.
        gold: of them those about gold pairs.
        repeats: of them those that repeat an earlier one.
        practice: pairs to practise with that were not answered, in their order.
        fresh: pairs that need raters and that this one has not had, and how many have them.
        new_gold: gold pairs that this rater has not had.
        repeatable: assignments that can be repeated now.
        open: pairs that the rater has now.
        sitting: number of the present sitting, from 1.
    """

    answered: int
    gold: int
    repeats: int
    practice: tuple[str, ...]
    fresh: tuple[tuple[str, int], ...]
    new_gold: tuple[str, ...]
    repeatable: tuple[Row[Any], ...]
    open: int
    sitting: int

    def owed(self, share: float, given: int) -> int:
        """How many more there should have been by now."""
        return int(share * self.answered + 0.5) - given


def is_held(now: datetime) -> ColumnElement[bool]:
    """Answered, or not yet expired: another rater does not get the pair in its place."""
    return or_(assignment.c.answered_at.is_not(None), assignment.c.expires_at > now)


def standing_of(connection: Connection, rater: int, rules: Rules, now: datetime) -> Standing:
    """Where a rater is."""
    mine = connection.execute(
        select(assignment, pair.c.use)
        .join(pair, pair.c.id == assignment.c.pair_id)
        .where(assignment.c.rater_id == rater)
        .order_by(assignment.c.number)
    ).all()
    held = {row.pair_id for row in mine if row.answered_at is not None or row.expires_at > now}
    counted = [row for row in mine if row.answered_at is not None and row.use != "practice"]
    sitting = _sitting(mine, rules, now)
    return Standing(
        answered=len(counted),
        gold=sum(row.use == "gold" for row in counted),
        repeats=sum(row.repeat_of is not None for row in counted),
        practice=tuple(one for one in _pairs(connection, "practice") if one not in held),
        fresh=tuple(_fresh(connection, held, now)),
        new_gold=tuple(one for one in _pairs(connection, "gold") if one not in held),
        repeatable=tuple(_repeatable(mine, sitting, now)),
        open=sum(row.answered_at is None and row.expires_at > now for row in mine),
        sitting=sitting,
    )


def progress_of(standing: Standing, rules: Rules) -> Progress:
    """How far the rater is; the total shrinks where others answer pairs first."""
    left = len(standing.fresh) + standing.open
    expected = int(rules.gold * (standing.answered + left) + 0.5) - standing.gold
    left += min(max(expected, 0), len(standing.new_gold))
    left += min(max(standing.owed(rules.repeats, standing.repeats), 0), len(standing.repeatable))
    return Progress(
        done=standing.answered,
        total=standing.answered + left,
        practice_left=len(standing.practice),
    )


def open_assignment(connection: Connection, rater: int, rules: Rules, now: datetime) -> str | None:
    """The rater's first assignment that was not answered; it is kept for them from now on."""
    found = connection.execute(
        select(assignment.c.id)
        .where(
            assignment.c.rater_id == rater,
            assignment.c.answered_at.is_(None),
            assignment.c.expires_at > now,
        )
        .order_by(assignment.c.number)
        .limit(1)
    ).scalar_one_or_none()
    if found is not None:
        connection.execute(
            update(assignment).where(assignment.c.id == found).values(expires_at=now + rules.lease)
        )
    return found


def draw(
    connection: Connection, rater: int, rules: Rules, now: datetime, random: Random
) -> str | None:
    """Give the rater another pair; for one transaction at a time.

    Practice comes first; then gold pairs and repeats at random, by their shares, and otherwise one of
    the pairs that the fewest raters have.

    Returns:
        Id of the assignment; None where there is nothing (more) to answer now.
    """
    at = standing_of(connection, rater, rules, now)
    repeated: Row[Any] | None = None
    if at.practice:
        chosen = at.practice[0]
    elif at.new_gold and _wanted(at, rules.gold, at.gold, random):
        chosen = random.choice(at.new_gold)
    elif at.repeatable and _wanted(at, rules.repeats, at.repeats, random):
        repeated = random.choice(at.repeatable)
        chosen = repeated.pair_id
    elif at.fresh:
        fewest = min(taken for _, taken in at.fresh)
        chosen = random.choice([one for one, taken in at.fresh if taken == fewest])
    else:
        return None
    masks = connection.execute(select(pair.c.masks).where(pair.c.id == chosen)).scalar_one()
    sides = _sides(len(masks), random, None if repeated is None else repeated.sides)
    made = secrets.token_urlsafe(16)
    connection.execute(
        insert(assignment).values(
            id=made, pair_id=chosen, rater_id=rater, sides=sides, sitting=at.sitting, made_at=now,
            expires_at=now + rules.lease, repeat_of=None if repeated is None else repeated.id,
        )
    )  # fmt: skip
    return made


def assignment_of(connection: Connection, rater: int, number: str) -> Assignment:
    """What the rater is asked.

    Raises:
        NotYours: there is no such assignment of this rater.
    """
    row = connection.execute(
        select(assignment).where(assignment.c.id == number, assignment.c.rater_id == rater)
    ).one_or_none()
    if row is None:
        raise NotYours(_NOT_YOURS)
    asked = pairs_of(connection, [row.pair_id])[row.pair_id]
    masks = masks_of(connection, asked.masks)
    return Assignment(
        id=row.id,
        pair=asked,
        item=items_of(connection, [asked.item])[asked.item],
        masks=tuple(masks[asked.masks[side]] for side in row.sides),
        sides=tuple(row.sides),
        rater=rater,
        repeat_of=row.repeat_of,
        image_opened=row.image_opened_at is not None,
        masks_opened=row.masks_opened_at is not None,
    )


def was_opened(
    connection: Connection, rater: int, number: str, what: Literal["image", "masks"]
) -> bool:
    """Whether the image or the masks of an assignment were sent.

    Raises:
        NotYours: there is no such assignment of this rater.
    """
    column = assignment.c.image_opened_at if what == "image" else assignment.c.masks_opened_at
    row = connection.execute(
        select(column).where(assignment.c.id == number, assignment.c.rater_id == rater)
    ).one_or_none()
    if row is None:
        raise NotYours(_NOT_YOURS)
    return row[0] is not None


def _wanted(at: Standing, share: float, given: int, random: Random) -> bool:
    """Whether the next one is of a kind that has a share: the likelier the more it lags behind."""
    if not at.fresh:
        return at.owed(share, given) > 0
    return random.random() < min(share * (at.answered + 1) - given, _MOST_LIKELY)


def _pairs(connection: Connection, use: str) -> list[str]:
    found = select(pair.c.id).where(pair.c.use == use).order_by(pair.c.position)
    return list(connection.execute(found).scalars())


def _fresh(connection: Connection, held: set[str], now: datetime) -> list[tuple[str, int]]:
    taken = (
        select(assignment.c.pair_id, func.count().label("raters"))
        .where(and_(assignment.c.repeat_of.is_(None), is_held(now)))
        .group_by(assignment.c.pair_id)
        .subquery()
    )
    raters = func.coalesce(taken.c.raters, 0)
    found = connection.execute(
        select(pair.c.id, raters)
        .outerjoin(taken, taken.c.pair_id == pair.c.id)
        .where(pair.c.use == "normal", raters < pair.c.votes)
        .order_by(pair.c.position)
    )
    return [(one, count) for one, count in found if one not in held]


def _repeatable(mine: Sequence[Row[Any]], sitting: int, now: datetime) -> list[Row[Any]]:
    """Answered assignments of earlier sittings that were not repeated yet."""
    repeated = {
        row.repeat_of
        for row in mine
        if row.repeat_of is not None and (row.answered_at is not None or row.expires_at > now)
    }
    return [
        row
        for row in mine
        if row.use == "normal"
        and row.repeat_of is None
        and row.answered_at is not None
        and row.sitting < sitting
        and row.id not in repeated
    ]


def _sitting(mine: Sequence[Row[Any]], rules: Rules, now: datetime) -> int:
    if not mine:
        return 1
    present: int = mine[-1].sitting
    last = max(max(row.made_at, row.answered_at or row.made_at) for row in mine)
    answers = sum(row.sitting == present and row.answered_at is not None for row in mine)
    over = answers >= rules.sitting or now - last >= rules.pause
    return present + 1 if over else present


def _sides(count: int, random: Random, before: Sequence[int] | None) -> list[int]:
    """Which mask is in which place; of a repeat every mask in another place than before."""
    if before is not None:
        shift = random.randrange(1, count) if count > 1 else 0
        return [*before[shift:], *before[:shift]]
    return random.sample(range(count), count)
