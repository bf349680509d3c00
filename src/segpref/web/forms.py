"""What the page sends, checked, and what it gets, as JSON."""

from __future__ import annotations

import json
import math
import uuid as uuids
from datetime import datetime
from typing import Any, NoReturn

from segpref.collect import (
    OPTIONS,
    Assignment,
    Progress,
    StudyNote,
    VoteIn,
    check_vote,
    right_answer,
    slice_count,
)
from segpref.types import SegprefError

__all__ = [
    "BadRequest",
    "mask_dtype",
    "practice_json",
    "progress_json",
    "read_json",
    "study_json",
    "task_json",
    "text_of",
    "uuid_of",
    "vote_of",
]

_VOTE = {
    "uuid", "assignment", "choice", "confidence", "shown_ms", "slices_seen", "window", "voted_at",
}  # fmt: skip
_WHY = "It agrees more with the reference segmentation of this image."
_WHY_ALONE = {
    "accept": "It agrees with the reference segmentation of this image.",
    "reject": "It is far from the reference segmentation of this image.",
}
_AXES = ("axial", "coronal", "sagittal")


class BadRequest(SegprefError):
    """A request that the page never sends."""


def read_json(body: bytes, allowed: set[str]) -> dict[str, Any]:
    """A flat object of a request.

    Args:
        body: as it came.
        allowed: names that it may have.

    Raises:
        BadRequest: it is none, or has other names.
    """

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in found}) < len(found):
            raise ValueError
        return dict(found)

    try:
        told = json.loads(body or b"{}", parse_constant=_no_number, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise BadRequest("this request is not JSON: reload the page") from error
    if not isinstance(told, dict) or not told.keys() <= allowed:
        raise BadRequest(f"this request may hold {', '.join(sorted(allowed))}: reload the page")
    return told


def text_of(told: dict[str, Any], name: str) -> str:
    """A short text of a request.

    Raises:
        BadRequest: there is none.
    """
    value = told.get(name)
    if not isinstance(value, str) or not value.isascii() or not 0 < len(value) <= 256:
        raise BadRequest(f"{name} is missing: reload the page")
    return value


def uuid_of(body: bytes) -> str:
    """The uuid of an undo.

    Raises:
        BadRequest: there is none.
    """
    told = text_of(read_json(body, {"uuid"}), "uuid")
    try:
        if str(uuids.UUID(told)) == told:
            return told
    except ValueError:
        pass
    raise BadRequest("a uuid has the form 123e4567-e89b-42d3-a456-426614174000")


def vote_of(body: bytes) -> VoteIn:
    """A vote, every value of which means something.

    Raises:
        BadRequest: one does not.
    """
    told = read_json(body, _VOTE)
    seen, window = told.get("slices_seen", {}), told.get("window")
    if not isinstance(seen, dict) or not all(isinstance(one, list) for one in seen.values()):
        raise BadRequest("slices_seen holds indices of slices for axial, coronal and sagittal")
    vote = VoteIn(
        uuid=text_of(told, "uuid"),
        assignment=text_of(told, "assignment"),
        choice=text_of(told, "choice"),  # type: ignore[arg-type]  # checked below
        confidence=told.get("confidence"),
        shown_ms=told.get("shown_ms"),
        slices_seen=seen,
        window=None if window is None else _window(window),
        voted_at=_time(told.get("voted_at")),
    )
    try:
        check_vote(vote)
    except SegprefError as error:
        raise BadRequest(str(error)) from error
    return vote


def progress_json(progress: Progress) -> dict[str, int]:
    """How far a rater is."""
    return {
        "done": progress.done, "total": progress.total, "practice_left": progress.practice_left,
    }  # fmt: skip


def study_json(note: StudyNote, pseudonym: str, progress: Progress) -> dict[str, Any]:
    """What the page shows of a study."""
    return {
        "title": note.title,
        "question": note.question,
        "instructions": note.instructions,
        "mode": note.mode,
        "choices": {
            mode: [[one.answer, one.key, one.shown, one.words] for one in options]
            for mode, options in OPTIONS.items()
        },
        "structures": _structures(note),
        "exclusive": note.label_space.kind == "multi-class",
        "rater": pseudonym,
        "progress": progress_json(progress),
    }


def task_json(
    note: StudyNote, given: Assignment, progress: Progress, undo: str | None
) -> dict[str, Any]:
    """What a rater is asked next: nothing in it depends on which mask is on which side."""
    shown, pair = given.item.display, given.pair
    slices = {axis: list(pair.slices[axis]) for axis in _AXES if axis in pair.slices}
    axis = next((one for one in pair.slices if one in _AXES), "axial")
    differing = slices.get(axis) or range(slice_count(shown.shape, axis))  # type: ignore[arg-type]
    return {
        "assignment": given.id,
        "mode": pair.mode,
        "practice": pair.use == "practice",
        "structure": pair.structure,
        "sides": len(given.masks),
        "image": {
            "shape": list(shown.shape),
            "axes": shown.axes,
            "channels": shown.channels,
            "dtype": shown.dtype,
            "spacing_mm": None if shown.spacing_mm is None else list(shown.spacing_mm),
            "window": None if shown.window is None else list(shown.window),
            "inverted": shown.inverted,
        },
        "mask_dtype": mask_dtype(note),
        "structures": [one["name"] for one in _structures(note)],
        "slices": slices,
        "start": {"axis": axis, "index": differing[len(differing) // 2]},
        "progress": progress_json(progress),
        "can_undo": undo is not None,
        "undo": undo,
    }


def practice_json(given: Assignment, said: str) -> dict[str, Any]:
    """What the right answer to a practice pair was, as seen on the screen."""
    right = right_answer(given.pair.mode, given.pair.gold, given.sides)
    return {
        "choice": right,
        "correct": said == right,
        "why": _WHY_ALONE.get(right, _WHY) if right else "",
    }


def mask_dtype(note: StudyNote) -> str:
    """Of the values of masks: class indices, or one bit for each structure."""
    return "uint8" if note.label_space.kind == "multi-class" else "uint32"


def _structures(note: StudyNote) -> list[dict[str, Any]]:
    space = note.label_space
    first = 1 if space.kind == "multi-class" else 0
    return [{"name": name, "code": at} for at, name in enumerate(space.names) if at >= first]


def _window(value: Any) -> tuple[float, float]:
    try:
        centre, width = (
            float(one) if isinstance(one, int | float) and not isinstance(one, bool) else math.nan
            for one in value
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequest("window is a centre and a width, two numbers") from error
    return centre, width


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        told = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise BadRequest("voted_at is a time such as 2026-01-31T12:00:00Z") from error
    if not 1970 <= told.year < 9999:  # it is kept in UTC
        raise BadRequest("voted_at is a time such as 2026-01-31T12:00:00Z")
    return told


def _no_number(_: str) -> NoReturn:
    raise ValueError
