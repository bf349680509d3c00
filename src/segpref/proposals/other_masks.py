"""Masks that other models made of the images, as candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.data.masks import MaskFolder
from segpref.proposals.proposal import ProposalContext, Proposed
from segpref.types import IGNORE, Case, LabelSpace, SegprefError

__all__ = ["OtherMasks"]


@checked(weight={"least": 0})
class OtherMasks:
    """Masks from folders, then the anchor with one structure taken from each of them.

    Models of another kind or dimension err elsewhere, so that their masks hold what edits of the
    anchor can't: whole parts that it missed. Which is better where is for the judge to say; one that
    made such a mask itself will always like it best. Nothing for images without a mask; the anchor
    where a mask says nothing.

    Args:
        folders: of the masks.
        weight: share of the slate.

    Raises:
        SegprefError: no folder.
    """

    family = "other"

    def __init__(self, folders: Sequence[MaskFolder], weight: float = 8.0) -> None:
        if not folders:
            raise SegprefError("OtherMasks needs at least one folder of masks")
        self.folders = tuple(folders)
        self.weight = weight

    def digest(self) -> str:
        """Name of the masks' content."""
        return " ".join(folder.digest() for folder in self.folders)

    def prepare(self, dataset: Dataset) -> None:
        """Read the masks of all images of the dataset."""
        for folder in self.folders:
            folder.prepare(dataset)

    def masks_of(self, case: Case) -> Mapping[str, UInt8[np.ndarray, "field *space"]]:
        """Masks of a case of a dataset that was prepared, by the number of their folder."""
        found = {f"other-{number}": folder[case] for number, folder in enumerate(self.folders)}
        return {name: mask for name, mask in found.items() if mask is not None}

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """Whole masks, then one structure of each."""
        there = []
        for number, folder in enumerate(self.folders):
            if f"other-{number}" in context.predictions:
                mask = context.predictions[f"other-{number}"]
                whole = np.where(mask == IGNORE, context.anchor, mask)
                there.append((str(folder.folder), whole))
                yield {"source": str(folder.folder)}, whole
        names = context.label_space.structures
        for source, whole in there:
            for number, name in enumerate(names if len(names) > 1 else ()):
                one = _with_structure(context.anchor, whole, context.label_space, number)
                yield {"source": source, "structure": name}, one


def _with_structure(
    anchor: UInt8[np.ndarray, "field *space"],
    other: UInt8[np.ndarray, "field *space"],
    label_space: LabelSpace,
    number: int,
) -> UInt8[np.ndarray, "field *space"]:
    """The anchor, but as the other has it where either of them holds the structure."""
    held = label_space.structure_masks(np.stack([anchor, other]), field_axis=1)[:, number].any(0)
    if label_space.kind == "multi-label":
        taken = anchor.copy()
        taken[number] = other[number]
        return taken
    return np.where(held, other, anchor)
