"""Standing sets of several studies joined into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segpref.data import Dataset
from segpref.preferences import AbstainingJudge, RoundSlates, content_ids
from segpref.types import Candidate, Case, SegprefError, Slate

__all__ = ["join_sets", "kept_set", "padded", "slates_of"]

SlateOf = Callable[[str], Slate]
"""Id of a case -> its slate."""


def slates_of(folder: Path, cases: Dataset) -> RoundSlates:
    """The slates that a folder keeps.

    Args:
        folder: of a standing set.
        cases: that it is of, in its order.
    """
    return RoundSlates(_missing, cases, AbstainingJudge(), folder, every=1)


def join_sets(parts: Sequence[tuple[Path, Dataset]], cases: Dataset, folder: Path) -> RoundSlates:
    """Write a set of the slates of several; nothing is done where it is there.

    The slates of one case become one, without repeats: the anchor is the same in all of them, for the
    studies are of one model.

    Args:
        parts: folders of sets, each with its cases.
        cases: of all of them.
        folder: where the joined set goes.
    """
    sets = [
        (slates_of(path, own), {case.id: place for place, case in enumerate(own)})
        for path, own in parts
    ]

    def joined(case: str) -> Slate:
        masks, candidates, seen = [], list[Candidate](), set[str]()
        for slates, places in sets:
            if case not in places:
                continue
            (slate,) = slates([places[case]], 0, 0).slates
            for name, mask, candidate in zip(
                content_ids(slate), slate.masks, slate.candidates, strict=True
            ):
                if name not in seen:
                    seen.add(name)
                    masks.append(mask)
                    candidates.append(candidate)
        return Slate(np.stack(masks), tuple(candidates))

    return kept_set(joined, cases, folder)


def kept_set(slate_of: SlateOf, cases: Dataset, folder: Path) -> RoundSlates:
    """Write a standing set, of which each slate is padded to the size of the largest."""
    size = max((len(slate_of(case.id)) for case in cases), default=0)

    def make(some: Sequence[Case], number: int) -> tuple[list[Slate], None]:
        return [padded(slate_of(case.id), size) for case in some], None

    made = RoundSlates(make, cases, AbstainingJudge(), folder, every=1)
    made([0], 0, 0)
    return made


def padded(slate: Slate, size: int) -> Slate:
    """A slate with as many repeats of its anchor as it lacks."""
    rows = [*range(len(slate)), *[0] * (size - len(slate))]
    return Slate(slate.masks[rows], tuple(slate.candidates[row] for row in rows))


def _missing(cases: object, number: int) -> tuple[list[Slate], None]:
    raise SegprefError("the set of masks is missing: restore the study's folder")
