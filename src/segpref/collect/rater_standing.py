"""Where a rater is: what was answered, and what there is still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, func, or_, select

from segpref.collect.answers import Progress
from segpref.collect.known_contents import Asked
from segpref.collect.rules import Rules
from segpref.collect.tables import assignment

__all__ = [
    "Given",
    "Standing",
    "given_to",
    "is_held",
    "progress_of",
    "raters_of_pairs",
    "standing_of",
]


class Given(NamedTuple):
    """An assignment of a rater: a row of the table without what is shown."""

    id: str
    pair_id: str
    repeat_of: str | None
    sitting: int
    made_at: datetime
    expires_at: datetime
    answered_at: datetime | None

    def is_open(self, now: datetime) -> bool:
        """Whether it is kept for the rater and was not answered."""
        return self.answered_at is None and self.expires_at > now


@dataclass(frozen=True, slots=True)
class Standing:
    """What a rater has answered, and which pairs there are still.

    Args:
        answered: assignments that were answered, without practice.
        first: assignments of normal pairs, each for the first time, that were answered or are open.
        gold: those about gold pairs, answered or open.
        repeats: those that repeat an earlier one, answered or open.
        practice: pairs to practise with that were not answered, in their order.
        fresh: pairs that need raters and that this one has not had, and how many have them.
        new_gold: gold pairs that this rater has not had.
        repeatable: assignments that can be repeated now.
        sitting: number of the present sitting, from 1.
    """

    answered: int
    first: int
    gold: int
    repeats: int
    practice: tuple[str, ...]
    fresh: tuple[tuple[str, int], ...]
    new_gold: tuple[str, ...]
    repeatable: tuple[Given, ...]
    sitting: int

    def owed(self, share: float, given: int) -> int:
        """How many more there should have been by now."""
        return _due(share, self.answered) - given

    def planned(self, rules: Rules) -> tuple[int, int]:
        """How many gold pairs and repeats there will have been in the end, as far as is known now.

        No more are given, and the page's count of what is to come is made of them: it must not change
        with the kind of what is on the screen, which raters are not to know.
        """
        normal, gold, repeats = self.first + len(self.fresh), self.gold, self.repeats
        most_gold, most_repeats = gold + len(self.new_gold), repeats + len(self.repeatable)
        while True:
            every = normal + gold + repeats
            if gold < min(most_gold, _due(rules.gold, every)):
                gold += 1
            elif repeats < min(most_repeats, _due(rules.repeats, every)):
                repeats += 1
            else:
                return gold, repeats


def _due(share: float, every: int) -> int:
    return int(share * every + 0.5)


def is_held(now: datetime | ColumnElement[Any]) -> ColumnElement[bool]:
    """Answered, or not yet expired: another rater does not get the pair in its place."""
    return or_(assignment.c.answered_at.is_not(None), assignment.c.expires_at > now)


# Statements of every request are built once.
_GIVEN_TO = (
    select(*(assignment.c[name] for name in Given._fields))
    .where(assignment.c.rater_id == bindparam("rater"))
    .order_by(assignment.c.number)
)
_RATERS = (
    select(assignment.c.pair_id, func.count())
    .where(
        assignment.c.repeat_of.is_(None),
        is_held(bindparam("now", type_=assignment.c.expires_at.type)),
    )
    .group_by(assignment.c.pair_id)
)


def given_to(connection: Connection, rater: int) -> list[Given]:
    """All assignments of a rater, in the order in which they were made."""
    return [Given._make(row) for row in connection.execute(_GIVEN_TO, {"rater": rater})]


def raters_of_pairs(connection: Connection, now: datetime) -> dict[str, int]:
    """How many raters have answered each pair or are about to; those that nobody has are left out."""
    return {row[0]: row[1] for row in connection.execute(_RATERS, {"now": now})}


def standing_of(
    asked: Asked, mine: Sequence[Given], raters: Mapping[str, int], rules: Rules, now: datetime
) -> Standing:
    """Where a rater is.

    Args:
        asked: what the study asks.
        mine: :func:`given_to` the rater.
        raters: :func:`raters_of_pairs`.
        rules: by which pairs are given.
        now: the time.
    """
    uses = {one.pair_id: asked.pairs[one.pair_id].use for one in mine}
    kept = [one for one in mine if one.answered_at is not None or one.expires_at > now]
    held = {one.pair_id for one in kept}
    counted = [one for one in kept if uses[one.pair_id] != "practice"]
    repeats = sum(one.repeat_of is not None for one in counted)
    gold = sum(uses[one.pair_id] == "gold" for one in counted)
    sitting = _sitting(mine, rules, now)
    left = [pair for pair in asked.pairs.values() if pair.id not in held]
    return Standing(
        answered=sum(one.answered_at is not None for one in counted),
        first=len(counted) - gold - repeats,
        gold=gold,
        repeats=repeats,
        practice=tuple(pair.id for pair in left if pair.use == "practice"),
        fresh=tuple(
            (pair.id, taken)
            for pair in left
            if pair.use == "normal" and (taken := raters.get(pair.id, 0)) < pair.votes
        ),
        new_gold=tuple(pair.id for pair in left if pair.use == "gold"),
        repeatable=tuple(_repeatable(mine, uses, sitting, now)),
        sitting=sitting,
    )


def progress_of(standing: Standing, rules: Rules) -> Progress:
    """How far the rater is; the total shrinks where others answer pairs first."""
    return Progress(
        done=standing.answered,
        total=standing.first + len(standing.fresh) + sum(standing.planned(rules)),
        practice_left=len(standing.practice),
    )


def _repeatable(
    mine: Sequence[Given], uses: Mapping[str, str], sitting: int, now: datetime
) -> list[Given]:
    """Answered assignments of earlier sittings that were not repeated yet."""
    repeated = {
        one.repeat_of
        for one in mine
        if one.repeat_of is not None and (one.answered_at is not None or one.expires_at > now)
    }
    return [
        one
        for one in mine
        if uses[one.pair_id] == "normal"
        and one.repeat_of is None
        and one.answered_at is not None
        and one.sitting < sitting
        and one.id not in repeated
    ]


def _sitting(mine: Sequence[Given], rules: Rules, now: datetime) -> int:
    if not mine:
        return 1
    present = mine[-1].sitting
    last = max(max(one.made_at, one.answered_at or one.made_at) for one in mine)
    answers = sum(one.sitting == present and one.answered_at is not None for one in mine)
    over = answers >= rules.sitting or now - last >= rules.pause
    return present + 1 if over else present
