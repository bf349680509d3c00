"""Stored votes as comparisons of what made the masks: proposal families or models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from segpref.collect.answers import VoteRow
from segpref.collect.contents import Mask
from segpref.preferences import Compared

__all__ = ["comparisons_of"]


def comparisons_of(
    rows: Iterable[VoteRow], name: Callable[[Mask], str], *, apart: bool = False
) -> list[Compared]:
    """First answers to questions of several masks as comparisons of the masks' makers.

    The best of four is better than each of the others. Repeats, questions with known answers, and
    answers that say neither which is better nor that they are equal (both bad, can't tell) give none.

    Args:
        rows: stored votes.
        name: what is compared, of a mask.
        apart: whether comparisons of a maker with itself are left out, too.
    """
    found = []
    for row in rows:
        if not row.counts or row.repeat_of is not None or row.pair.use != "normal":
            continue
        names = [name(mask) for mask in row.masks]
        if len(names) > 1:
            found += _compared(row, names)
    return [one for one in found if not apart or one.first != one.second]


def _compared(row: VoteRow, names: Sequence[str]) -> list[Compared]:
    patient = row.item.patient
    if len(names) == 2:
        left, right = row.sides
        outcome: Literal["first", "second", "tie"]
        if row.chosen is not None:
            outcome = "first" if row.chosen == left else "second"
        elif row.choice == "tie":
            outcome = "tie"
        else:
            return []
        return [Compared(names[left], names[right], outcome, patient)]
    if row.chosen is None:
        return []
    return [
        Compared(names[row.chosen], other, "first", patient, sided=False)
        for place, other in enumerate(names)
        if place != row.chosen
    ]
