"""A preference: a statement of a judge or a person about one candidate mask or two."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from numbers import Real
from typing import Any, Literal, get_args

from segpref.types import SegprefError

__all__ = ["Choice", "Preference", "Question"]

Choice = Literal["first", "second", "tie", "both-bad", "cant-tell", "accept", "reject"]
"""The last two are about one candidate, the others about two."""

Question = tuple[str, str | None, str, int | None, str | None, frozenset[str]]
"""Who was asked (source, rater) about what (case, field, structure, candidates)."""

_ONE = ("accept", "reject")
_NUMBERS = (("strength", math.inf, "above 0"), ("confidence", 1.0, "above 0 and at most 1"))
_ID = re.compile(r"[0-9a-f]{32}")


def is_content_id(text: object) -> bool:
    """Whether a text may be the content id of a mask: 32 hexadecimal digits."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A statement about one or two candidates of one case, from any source.

    Args:
        case: id of the case.
        candidates: content ids (:func:`~segpref.preferences.content_id`) of one mask or of two
            different ones, in the order in which they were shown.
        choice: ``first``, ``second``, ``tie``, ``both-bad`` or ``cant-tell`` of two candidates,
            ``accept`` or ``reject`` of one.
        source: who is asked: the name of a judge, or ``votes``.
        field: index of the field of the masks that it is about; all fields where None.
        structure: name of the structure that it is about; all structures where None.
        strength: how much better the chosen one is, in units of the source (a judge's difference of
            scores), above 0; None where nothing was said.
        confidence: how sure the source is, above 0 and at most 1; None where nothing was said.
        rater: which person or which of several judges, where there are several.
        time: when it was said, with its time zone; kept in UTC.

    Raises:
        SegprefError: a value that means nothing.
    """

    case: str
    candidates: tuple[str, ...]
    choice: Choice
    source: str
    field: int | None = None
    structure: str | None = None
    strength: float | None = None
    confidence: float | None = None
    rater: str | None = None
    time: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("case", "source", "structure", "rater"):
            _check_text(name, getattr(self, name), optional=name in ("structure", "rater"))
        self._check_choice()
        _check_field(self.field)
        if self.strength is not None and self.choice not in ("first", "second"):
            raise SegprefError(
                f"strength says how much better one candidate is than another, which {self.choice!r} "
                "does not: leave it out, or give confidence"
            )
        for name, most, meaning in _NUMBERS:
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, _number(name, value, most, meaning))
        if self.time is not None:
            object.__setattr__(self, "time", _utc(self.time))

    def _check_choice(self) -> None:
        ids = self.candidates
        if not isinstance(ids, tuple) or not all(isinstance(one, str) for one in ids):
            raise SegprefError(f"candidates are content ids of masks, not {_short(ids)}")
        if wrong := [one for one in ids if not is_content_id(one)]:
            raise SegprefError(
                f"the id of a candidate is 32 hexadecimal digits, not {_short(wrong[0])}"
            )
        if self.choice not in get_args(Choice):
            raise SegprefError(
                f"choice is one of {', '.join(get_args(Choice))}, not {_short(self.choice)}"
            )
        count = 1 if self.choice in _ONE else 2
        if len(ids) != count:
            raise SegprefError(
                f"the choice {self.choice!r} is about {count} candidate{'s' * (count - 1)}, and "
                f"{len(ids)} were given"
            )
        if len(set(ids)) < len(ids):
            raise SegprefError("the two candidates of a preference are one and the same mask")

    @property
    def winner(self) -> str | None:
        """Content id of the better of two candidates; None where none is said to be better."""
        return {"first": self.candidates[0], "second": self.candidates[-1]}.get(self.choice)

    @property
    def loser(self) -> str | None:
        """Content id of the worse of two candidates; None where none is said to be worse."""
        return {"first": self.candidates[-1], "second": self.candidates[0]}.get(self.choice)

    @property
    def question(self) -> Question:
        """What it is the answer to, on whichever sides the candidates were shown."""
        about = (self.case, self.field, self.structure, frozenset(self.candidates))
        return (self.source, self.rater, *about)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what was not said is left out."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        found["candidates"] = list(self.candidates)
        if self.time is not None:
            found["time"] = self.time.isoformat()
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def from_json(cls, content: Any, where: object = "a preference") -> Preference:
        """The record of :meth:`to_json`.

        Args:
            content: what was read.
            where: file and line that it comes from, for the sentence.

        Raises:
            SegprefError: it is no such record, or has other names than it.
        """
        try:
            return cls(**_arguments(content))
        except SegprefError as error:
            raise SegprefError(
                f"{where} can't be used ({error}): correct it, or remove it"
            ) from error


def _arguments(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise SegprefError("a preference is a JSON object")
    known = {one.name for one in fields(Preference)}
    if strange := sorted(set(content) - known):
        raise SegprefError(f"a preference has no {_short(strange[0])}")
    if missing := [
        name for name in ("case", "candidates", "choice", "source") if name not in content
    ]:
        raise SegprefError(f"it lacks {missing[0]}")
    told = {**content}
    if isinstance(told["candidates"], list):
        told["candidates"] = tuple(told["candidates"])
    if told.get("time") is not None:
        told["time"] = _parsed(told["time"])
    return told


def _parsed(text: Any) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise SegprefError(
            f"time has the form 2026-01-31T12:00:00+00:00, not {_short(text)}"
        ) from error


def _utc(time: Any) -> datetime:
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise SegprefError(f"time needs a time zone, which {_short(str(time))} lacks")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise SegprefError(f"time is outside the calendar: {time}") from error


def _check_text(name: str, value: Any, *, optional: bool) -> None:
    if value is None and optional:
        return
    if not isinstance(value, str) or not value:
        raise SegprefError(f"{name} is a text that is not empty, not {_short(value)}")


def _check_field(value: Any) -> None:
    if value is not None and (type(value) is not int or value < 0):
        raise SegprefError(f"field is a whole number from 0, not {_short(value)}")


def _number(name: str, value: Any, most: float, meaning: str) -> float:
    """The value as a number of Python's, above 0."""
    try:
        number = float(value) if not isinstance(value, bool) and isinstance(value, Real) else 0.0
    except OverflowError:
        number = math.inf
    if not 0 < number <= most or number == math.inf:
        raise SegprefError(f"{name} is a number {meaning}, not {_short(value)}")
    return number


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
