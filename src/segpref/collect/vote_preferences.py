"""Votes as preference records, which a model is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import combinations
from typing import Literal, NamedTuple

from segpref.collect.answers import VoteRow
from segpref.collect.choices import ANSWERS
from segpref.preferences import Choice, Preference

__all__ = ["CONFIDENCE", "VotePreferences", "preferences_from_votes"]

CONFIDENCE = {1: 1 / 3, 2: 2 / 3, 3: 1.0}
"""What a rater said (1 unsure, 2 fairly sure, 3 sure) as the confidence of a record: a third each."""

_Shown = tuple[tuple[int, ...], Choice]


class VotePreferences(NamedTuple):
    """Records of votes.

    Args:
        records: in the order of the votes.
        skipped: how many votes, or comparisons within them, give none, by reason.
    """

    records: list[Preference]
    skipped: Counter[str]


def preferences_from_votes(
    votes: Iterable[VoteRow],
    use: Collection[Literal["train", "choose", "evaluate"]] = ("train", "choose"),
) -> VotePreferences:
    """The preferences that votes state, between masks of the prepared grid.

    Candidates are in the order of the screen. The best of four is better than each of the others; where
    none of four is good, any two of them are ``both-bad``. Gold and practice pairs give none, nor do
    votes that were taken back.

    Args:
        votes: from the store.
        use: which images' votes are wanted.
    """
    wanted = VotePreferences([], Counter())
    for vote in votes:
        if reason := _left_out(vote, use):
            wanted.skipped[reason] += 1
            continue
        for places, choice in _statements(vote):
            ids = tuple(vote.masks[vote.sides[place]].prepared_id for place in places)
            if len(set(ids)) < len(ids):
                wanted.skipped["the masks are one and the same in the prepared grid"] += 1
            elif len(ids) == 1 and choice == "cant-tell":
                wanted.skipped["can't tell whether one mask is good enough"] += 1
            else:
                wanted.records.append(_record(vote, ids, choice))
    return wanted


def _left_out(vote: VoteRow, use: Collection[str]) -> str | None:
    if not vote.counts:
        return "taken back or superseded"
    if vote.pair.use != "normal" or vote.item.use == "gold":
        return "gold or practice"
    if vote.item.use not in use:
        return f"of images for another use ({vote.item.use})"
    return None


def _statements(vote: VoteRow) -> Iterator[_Shown]:
    """Places on the screen, and what is said of the masks there."""
    places, told = range(len(vote.sides)), ANSWERS[vote.choice]
    if told.place is None:
        assert told.says is not None
        for shown in combinations(places, min(2, len(places))):
            yield shown, told.says
        return
    best = told.place
    for other in places:
        if other != best:
            yield (min(best, other), max(best, other)), "first" if best < other else "second"


def _record(vote: VoteRow, ids: tuple[str, ...], choice: Choice) -> Preference:
    return Preference(
        case=vote.item.case,
        candidates=ids,
        choice=choice,
        source="votes",
        field=vote.pair.field_index,
        structure=vote.pair.structure,
        confidence=None if vote.confidence is None else CONFIDENCE[vote.confidence],
        rater=vote.rater,
        time=vote.stored_at,
    )
