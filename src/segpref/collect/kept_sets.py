"""Standing sets that are there: read, joined, and written as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segpref.collect.standing import kept_cases
from segpref.data.dataset import Dataset
from segpref.preferences import (
    AbstainingJudge,
    PreferenceFolder,
    RoundSlates,
    Scoring,
    WholeSlates,
    content_ids,
    write_whole_slates,
)
from segpref.types import Candidate, Case, SegprefError, Slate

__all__ = ["SlatesByCase", "cases_named", "joined", "kept_set", "padded"]


class SlatesByCase(NamedTuple):
    """Slates that are kept, by case.

    Args:
        cases: ids of the cases that they are of, in the order of the set.
        slate: gives the slate of one of them.
    """

    cases: Sequence[str]
    slate: Callable[[str], Slate]

    @classmethod
    def of_set(cls, folder: Path) -> SlatesByCase:
        """Those of a standing set; of no case where the folder holds none."""
        if WholeSlates.there(folder):
            whole = WholeSlates(folder)
            rows = {case: place for place, case in enumerate(whole.cases)}
            return cls(whole.cases, lambda case: whole.sparse(rows[case]).whole())
        cases: Any = _Named(kept_cases(folder))
        places = {case: place for place, case in enumerate(cases.names)}
        kept = RoundSlates(_missing, cases, AbstainingJudge(), folder, every=1)
        return cls(cases.names, lambda case: kept([places[case]], 0, 0).slates[0])

    @classmethod
    def of_folder(cls, folder: PreferenceFolder) -> SlatesByCase:
        """The masks of a folder of preferences."""
        return cls(folder.cases, folder.slates())


def joined(sets: Sequence[SlatesByCase]) -> SlatesByCase:
    """The slates of several sets; those of one case become one, without repeats.

    The anchor is the same in all of them, for the sets are of one model.
    """
    if len(sets) == 1:
        return sets[0]
    known = [frozenset(one.cases) for one in sets]

    def slate(case: str) -> Slate:
        masks, candidates, seen = [], list[Candidate](), set[str]()
        for one, cases in zip(sets, known, strict=True):
            if case not in cases:
                continue
            own = one.slate(case)
            for name, mask, candidate in zip(
                content_ids(own), own.masks, own.candidates, strict=True
            ):
                if name not in seen:
                    seen.add(name)
                    masks.append(mask)
                    candidates.append(candidate)
        return Slate(np.stack(masks), tuple(candidates))

    return SlatesByCase(tuple(dict.fromkeys(case for one in sets for case in one.cases)), slate)


def kept_set(slates: SlatesByCase, folder: Path, *, whole: bool = False) -> Path:
    """Write slates as a standing set, unless it is there; each is padded to the size of the largest.

    Args:
        slates: of the set.
        folder: where it goes.
        whole: whether the model sees patches, and images may differ in size.

    Returns:
        The folder.

    Raises:
        SegprefError: the masks differ in size, of a model that sees whole images.
    """
    cases: Any = _Named(slates.cases)
    if whole:
        scoring = Scoring(AbstainingJudge())
        made = (scoring([case], [slates.slate(case.id)])[0] for case in cases)
        return write_whole_slates(folder, made).folder
    shapes = [slates.slate(case).masks.shape for case in slates.cases]
    if len({shape[1:] for shape in shapes}) > 1:
        raise SegprefError(
            "the masks that were voted on differ in size, and this model sees whole images of one "
            "size: give the preferences about images of one size"
        )
    size = max((shape[0] for shape in shapes), default=0)

    def make(some: Sequence[Case], number: int) -> tuple[list[Slate], None]:
        return [padded(slates.slate(case.id), size) for case in some], None

    RoundSlates(make, cases, AbstainingJudge(), folder, every=1)([0], 0, 0)
    return folder


def padded(slate: Slate, size: int) -> Slate:
    """A slate with as many repeats of its anchor as it lacks."""
    rows = [*range(len(slate)), *[0] * (size - len(slate))]
    return Slate(slate.masks[rows], tuple(slate.candidates[row] for row in rows))


def cases_named(datasets: Sequence[Dataset], names: Sequence[str]) -> Dataset:
    """These cases in their order, of the first dataset that has them all.

    Raises:
        SegprefError: none has.
    """
    missing: set[str] = set()
    for dataset in datasets:
        places = {dataset[index].id: index for index in range(len(dataset))}
        if missing := set(names) - places.keys():
            continue
        return dataset.take([places[name] for name in names])
    raise SegprefError(
        f"the images that were voted on are not all there ({sorted(missing)[0]} is missing): give the "
        "--data, and the --pool, that the study was made of (a recipe has no pool: add those images to "
        "its data)"
    )


class _Named(Sequence[Case]):
    """Cases of which nothing but the id is known: a set that is there needs no more."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, place: Any) -> Any:
        name = self.names[place]
        return Case(id=name, patient=name, volume=name, image=np.zeros((1, 0, 0), np.float32))

    def without_labels(self) -> _Named:
        return self


def _missing(cases: object, number: int) -> tuple[list[Slate], None]:
    raise SegprefError("the set of masks is missing: restore the study's folder")
