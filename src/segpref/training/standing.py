"""Patches of slates that stand still: what a model that sees patches learns from votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Int32
from torch import Tensor

from segpref.data.dataset import Dataset, stored
from segpref.data.patches import PLACES
from segpref.preferences import Preference, RecordedPairs, SparseSlate, WholeSlates
from segpref.training.step import Reference, ScoredSlates
from segpref.types import Case, SegprefError, State

__all__ = ["StandingPatches"]


class StandingPatches:
    """The part of whole masks that lies in the patch that a step is about.

    Preferences are about whole masks: a pair that does not differ in the patch says nothing there. So
    patches are drawn around voxels in which the masks of a preference differ (:meth:`places`).

    Args:
        reference: logits of the frozen start for a patch.
        slates: of whole images.
        pool: the images, in the order of the slates.
        records: what was said of them.

    Raises:
        SegprefError: slates of other images, or masks of another size than the image.
    """

    def __init__(
        self,
        reference: Reference,
        slates: WholeSlates,
        pool: Dataset,
        records: RecordedPairs,
    ) -> None:
        self._reference = reference
        self._slates, self._records = slates, records.by_case
        self._known: dict[str, np.ndarray] = {}
        for place, name in enumerate(slates.cases):
            case = pool[place] if place < len(pool) else None
            image = None if case is None or case.id != name else stored(case, "image")
            if image is None or len(slates.cases) != len(pool):
                raise SegprefError(
                    f"{slates.folder} holds masks of other images than the pool's: give the images "
                    "that were voted on"
                )
            shape = slates.sparse(place, ()).anchor.shape[1:]
            if name in self._records and shape != image.shape[1:]:
                told, own = (" x ".join(map(str, one)) for one in (shape, image.shape[1:]))
                raise SegprefError(
                    f"the masks of {name} in {slates.folder} have {told} voxels and its prepared "
                    f"image {own}: a model that sees patches learns from masks of whole images, "
                    "such as those of segpref collect init"
                )

    @cached_property
    def _wanted(self) -> Mapping[str, frozenset[str]]:
        return {
            case: frozenset(name for one in own for name in one.candidates)
            for case, own in self._records.items()
        }

    def _sparse(self, place: int) -> SparseSlate:
        case = self._slates.cases[place]
        return self._slates.sparse(place, self._wanted.get(case, frozenset()))

    def __call__(
        self,
        indices: Sequence[int],
        cases: Sequence[Case],
        images: Tensor,
        state: State,
        epoch: int,
        number: int,
    ) -> ScoredSlates:
        """The slates of these patches of cases of the pool."""
        slates = []
        for place, case in zip(indices, cases, strict=True):
            assert case.window is not None
            slates.append(self._sparse(place).cut(case.window))
        nothing = [np.full(slate.masks.shape[:2], np.nan) for slate in slates]
        return ScoredSlates(slates, nothing, self._reference(cases, images))

    def places(self, case: Case) -> Int32[np.ndarray, "place axis"]:
        """Voxels in which the masks of a preference differ, as many of each; -1 where there are none.

        An anchor that was accepted or rejected as it is counts where it holds a structure.
        """
        if case.id not in self._known:
            place = self._slates.cases.index(case.id)
            slate, rng = self._sparse(place), np.random.default_rng(PLACES)
            rows = {name: row for row, name in reversed(list(enumerate(slate.ids)))}
            found = [_voxels(slate, one, rows) for one in self._records.get(case.id, ())]
            there = [voxels for voxels in found if len(voxels)]
            axes = len(slate.anchor.shape) - 1
            drawn = np.full((PLACES, axes), -1, np.int32)
            for number in range(PLACES if there else 0):
                own = there[number % len(there)]
                at = np.unravel_index(own[rng.integers(len(own))], slate.anchor.shape)
                drawn[number] = at[1:]
            self._known[case.id] = drawn
        return self._known[case.id]


def _voxels(slate: SparseSlate, record: Preference, rows: Mapping[str, int]) -> np.ndarray:
    """Places in the flat anchor that a preference is about."""
    if any(name not in rows for name in record.candidates):
        return np.empty(0, np.int64)
    first, *rest = (rows[name] for name in record.candidates)
    other = rest[0] if rest else 0
    if first == other:
        return np.flatnonzero(np.asarray(slate.anchor))
    return slate.differing(first, other)
