"""What raters can answer: the one place in which answers are declared, for store, page and records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from segpref.collect.contents import Mode
from segpref.preferences import Choice

__all__ = [
    "ANSWERS",
    "OPTIONS",
    "Answer",
    "Option",
    "choices_of",
    "judged",
    "place_of",
    "right_answer",
]

Answer = Literal[
    "left", "right", "tie", "both-bad", "cant-tell", "accept", "reject",
    "best-0", "best-1", "best-2", "best-3", "none-good",
]  # fmt: skip
"""As seen on the screen; ``best-N`` counts the places from the top left, row by row."""


@dataclass(frozen=True, slots=True)
class Option:
    """One of the answers to a question.

    Args:
        answer: what is stored.
        key: of the keyboard, as browsers name it.
        shown: the key as the page shows it.
        words: on the page.
        place: on the screen of the mask that it chooses; None where it chooses none.
        says: what it states of any two masks that are shown, or of the one; None where it chooses one.
    """

    answer: Answer
    key: str
    shown: str
    words: str
    place: int | None = None
    says: Choice | None = None


_CANT_TELL = Option("cant-tell", "u", "U", "Can’t tell", says="cant-tell")

_PAIR = (
    Option("left", "arrowleft", "←", "Left is better", place=0),
    Option("tie", "=", "=", "Equally good", says="tie"),
    Option("both-bad", "b", "B", "Both bad", says="both-bad"),
    _CANT_TELL,
    Option("right", "arrowright", "→", "Right is better", place=1),
)

OPTIONS: Mapping[Mode, tuple[Option, ...]] = {
    "pair": _PAIR,
    "base-or-tuned": _PAIR,
    "accept-reject": (
        Option("accept", "a", "A", "Accept", says="accept"),
        _CANT_TELL,
        Option("reject", "r", "R", "Reject", says="reject"),
    ),
    "best-of-four": (
        Option("best-0", "q", "Q", "Top left", place=0),
        Option("best-1", "w", "W", "Top right", place=1),
        Option("best-2", "a", "A", "Bottom left", place=2),
        Option("best-3", "s", "S", "Bottom right", place=3),
        Option("none-good", "b", "B", "None is good", says="both-bad"),
        _CANT_TELL,
    ),
}
"""The answers of each mode, in the order of the page."""

ANSWERS: Mapping[str, Option] = {one.answer: one for options in OPTIONS.values() for one in options}
"""Every answer by what is stored of it."""

_JUDGED: tuple[Answer, Answer] = ("accept", "reject")
"""By the number that a known answer to a question about one mask has."""


def choices_of(mode: Mode) -> tuple[Answer, ...]:
    """What can be answered in a mode."""
    return tuple(one.answer for one in OPTIONS[mode])


def place_of(answer: str) -> int | None:
    """The place on the screen of the mask that an answer chooses; None where it chooses none."""
    return ANSWERS[answer].place if answer in ANSWERS else None


def judged(answer: str) -> int | None:
    """0 of a mask that was accepted, 1 of one that was rejected; None of other answers."""
    return next((number for number, one in enumerate(_JUDGED) if one == answer), None)


def right_answer(mode: Mode, gold: int | None, sides: tuple[int, ...]) -> Answer | None:
    """The answer that is known to be right, as seen on the screen.

    Args:
        mode: how it is asked.
        gold: which mask is better; of one mask 0 where it is good, 1 where it is not.
        sides: for each place on the screen, the index of its mask.
    """
    if gold is None:
        return None
    if mode == "accept-reject":
        return _JUDGED[gold]
    if gold not in sides:
        return None
    place = sides.index(gold)
    return next(one.answer for one in OPTIONS[mode] if one.place == place)
