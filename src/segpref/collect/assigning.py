"""Which pair a rater gets next, and which side each mask is shown on."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Literal

from sqlalchemy import Connection, bindparam, insert, select, update

from segpref.collect.answers import Assignment, NotYours
from segpref.collect.known_contents import Asked
from segpref.collect.rater_standing import Given, Standing
from segpref.collect.rules import Rules
from segpref.collect.tables import assignment

__all__ = ["NO_SUCH_COMPARISON", "assignment_of", "draw", "keep", "mark_opened"]

NO_SUCH_COMPARISON = "there is no such comparison of yours: reload the page"
_MOST_LIKELY = 0.5
"""Of what lags behind, such as repeats when a sitting begins, with others in between."""

# Statements of every request are built once.
_OWN = select(assignment).where(
    assignment.c.id == bindparam("which"), assignment.c.rater_id == bindparam("rater")
)
_SIDES = select(assignment.c.sides).where(assignment.c.id == bindparam("which"))
_KEEP = update(assignment).where(assignment.c.id == bindparam("which"))
_GIVE = insert(assignment)
_MARK = {
    what: update(assignment).where(
        assignment.c.id == bindparam("which"),
        assignment.c.rater_id == bindparam("rater"),
        assignment.c[f"{what}_opened_at"].is_(None),
    )
    for what in ("image", "masks")
}


def draw(
    connection: Connection,
    asked: Asked,
    rater: int,
    at: Standing,
    rules: Rules,
    now: datetime,
    random: Random,
) -> Given | None:
    """Give the rater another pair; for one transaction at a time.

    Practice comes first; then gold pairs and repeats at random, by their shares, and otherwise one of
    the pairs that the fewest raters have.

    Args:
        connection: to the database.
        asked: what the study asks.
        rater: id.
        at: where the rater is.
        rules: by which pairs are given.
        now: the time.
        random: draws pairs and sides.

    Returns:
        The assignment; None where there is nothing (more) to answer now.
    """
    repeated: Given | None = None
    most_gold, most_repeats = at.planned(rules)
    if at.practice:
        chosen = at.practice[0]
    elif at.gold < most_gold and _wanted(at, rules.gold, at.gold, random):
        chosen = random.choice(at.new_gold)
    elif at.repeats < most_repeats and _wanted(at, rules.repeats, at.repeats, random):
        repeated = random.choice(at.repeatable)
        chosen = repeated.pair_id
    elif at.fresh:
        fewest = min(taken for _, taken in at.fresh)
        chosen = random.choice([one for one, taken in at.fresh if taken == fewest])
    else:
        return None
    before = (
        None
        if repeated is None
        else connection.execute(_SIDES, {"which": repeated.id}).scalar_one()
    )
    made = Given(
        id=secrets.token_urlsafe(16),
        pair_id=chosen,
        repeat_of=None if repeated is None else repeated.id,
        sitting=at.sitting,
        made_at=now,
        expires_at=now + rules.lease,
        answered_at=None,
    )
    sides = _sides(len(asked.pairs[chosen].masks), random, before)
    connection.execute(_GIVE, {**made._asdict(), "rater_id": rater, "sides": sides})
    return made


def keep(connection: Connection, number: str, rules: Rules, now: datetime) -> None:
    """Keep an assignment for its rater from now on."""
    connection.execute(_KEEP, {"which": number, "expires_at": now + rules.lease})


def assignment_of(connection: Connection, asked: Asked, rater: int, number: str) -> Assignment:
    """What the rater is asked.

    Raises:
        NotYours: there is no such assignment of this rater.
    """
    row = connection.execute(_OWN, {"which": number, "rater": rater}).one_or_none()
    if row is None:
        raise NotYours(NO_SUCH_COMPARISON)
    pair = asked.pairs[row.pair_id]
    return Assignment(
        id=row.id,
        pair=pair,
        item=asked.items[pair.item],
        masks=tuple(asked.masks[pair.masks[side]] for side in row.sides),
        sides=tuple(row.sides),
        rater=rater,
        repeat_of=row.repeat_of,
        image_opened=row.image_opened_at is not None,
        masks_opened=row.masks_opened_at is not None,
    )


def mark_opened(
    connection: Connection, rater: int, number: str, what: Literal["image", "masks"], now: datetime
) -> None:
    """Note that the image or the masks of an assignment were sent; the first time counts.

    Raises:
        NotYours: there is no such assignment of this rater.
    """
    own = {"which": number, "rater": rater}
    if connection.execute(_MARK[what], {**own, f"{what}_opened_at": now}).rowcount:
        return
    if connection.execute(_OWN, own).one_or_none() is None:
        raise NotYours(NO_SUCH_COMPARISON)


def _wanted(at: Standing, share: float, given: int, random: Random) -> bool:
    """Whether the next one is of a kind that has a share: the likelier the more it lags behind."""
    if not at.fresh:
        return at.owed(share, given) > 0
    return random.random() < min(share * (at.answered + 1) - given, _MOST_LIKELY)


def _sides(count: int, random: Random, before: Sequence[int] | None) -> list[int]:
    """Which mask is in which place; of a repeat every mask in another place than before."""
    if before is not None:
        shift = random.randrange(1, count) if count > 1 else 0
        return [*before[shift:], *before[:shift]]
    return random.sample(range(count), count)
