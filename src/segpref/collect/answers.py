"""What passes between raters and the store: assignments, votes and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from segpref.collect.choices import Answer
from segpref.collect.contents import Item, Mask, Pair
from segpref.types import SegprefError

__all__ = [
    "Asking",
    "Assignment",
    "Conflict",
    "NotAnAnswer",
    "NotYours",
    "Progress",
    "Rater",
    "Refused",
    "StoreFull",
    "Stored",
    "Unavailable",
    "VoteIn",
    "VoteRow",
]


class Refused(SegprefError):
    """A link or a session that does not count (any more)."""


class NotYours(SegprefError):
    """Another rater's assignment, or none."""


class Conflict(SegprefError):
    """A vote that contradicts one that is stored, or that comes too early."""


class NotAnAnswer(SegprefError):
    """A choice that can't be made in the mode of a comparison."""


class StoreFull(SegprefError):
    """Nothing can be stored; nothing that was acknowledged is lost."""


class Unavailable(SegprefError):
    """A database that can't be used at the moment; what was to be stored may be sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rater:
    """Who votes: a pseudonym."""

    id: int
    pseudonym: str
    role: Literal["rater", "admin"] = "rater"
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A pair that was given to a rater.

    Args:
        id: opaque.
        pair: what is asked.
        item: the image.
        masks: in the order of the screen, left to right and top to bottom.
        sides: for each place on the screen, the index in ``pair.masks``.
        rater: id of the rater.
        repeat_of: id of the assignment that it repeats, None otherwise.
        image_opened: whether the image was sent.
        masks_opened: whether the masks were sent.
    """

    id: str
    pair: Pair
    item: Item
    masks: tuple[Mask, ...]
    sides: tuple[int, ...]
    rater: int
    repeat_of: str | None = None
    image_opened: bool = False
    masks_opened: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteIn:
    """A vote as the page sends it.

    Args:
        uuid: chosen by the page; the same vote sent twice counts once.
        assignment: id.
        choice: as seen on the screen.
        confidence: 1 (unsure) to 3 (sure); None where nothing was said.
        shown_ms: how long the masks were on the screen (milliseconds).
        slices_seen: how many slices were looked at, or which, by axis.
        window: centre and width at the time of the vote.
        voted_at: by the rater's clock.
    """

    uuid: str
    assignment: str
    choice: Answer
    confidence: int | None = None
    shown_ms: int | None = None
    slices_seen: Mapping[str, Sequence[int]] = field(default_factory=dict)
    window: tuple[float, float] | None = None
    voted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a rater is."""

    done: int
    total: int
    practice_left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a rater is asked now.

    Args:
        assignment: None where nothing is left now.
        progress: of the rater.
        last_vote: uuid of the vote that can be undone; None where there is none.
    """

    assignment: Assignment | None
    progress: Progress
    last_vote: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A vote that is on the disk.

    Args:
        progress: of the rater, with this vote.
        duplicate: whether it had been stored before.
    """

    progress: Progress
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRow:
    """A stored vote with everything that is known of it, for reports and exports.

    Args:
        id: number of the row; later rows have higher ones.
        uuid: as the page chose it.
        rater: pseudonym.
        pair: what was asked.
        item: about which image.
        masks: of the pair, in the order of ``pair.masks``.
        sides: for each place on the screen, the index in ``masks``.
        assignment: id.
        repeat_of: id of the assignment that was repeated.
        choice: on the screen, or ``undo``.
        chosen: index in ``masks`` of the better one; None where none was said to be better.
        confidence: 1 to 3, or None.
        shown_ms: how long the masks were on the screen.
        slices_seen: by axis.
        stored_at: by the server's clock, in UTC.
        counts: whether nothing supersedes it and it was not taken back.
        supersedes: number of the row that it takes the place of, or takes back.
        sitting: of the rater, from 1, in which the pair was given.
        window: centre and width at the time of the vote.
        voted_at: by the rater's clock.
    """

    id: int
    uuid: str
    rater: str
    pair: Pair
    item: Item
    masks: tuple[Mask, ...]
    sides: tuple[int, ...]
    assignment: str
    repeat_of: str | None
    choice: str
    chosen: int | None
    confidence: int | None
    shown_ms: int | None
    slices_seen: Mapping[str, Any]
    stored_at: datetime
    counts: bool
    supersedes: int | None = None
    sitting: int = 1
    window: tuple[float, float] | None = None
    voted_at: datetime | None = None
