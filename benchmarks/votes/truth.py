"""The true quality of masks on a page, by the labels of the dataset that its images come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from segpref.collect import (
    Axis,
    Item,
    StudyFolder,
    VoteRow,
    layout_of,
    native_of,
    packed_mask,
    slice_count,
    slice_of,
)
from segpref.data import open_dataset

__all__ = ["Truth", "mask_scores", "spread_of", "true_flips"]

AXES: tuple[Axis, ...] = ("axial", "coronal", "sagittal")


def key_of(values: np.ndarray) -> str:
    """A name of an image by its values."""
    plain = np.ascontiguousarray(values)
    return hashlib.sha256(f"{plain.shape}".encode() + plain.astype("<f4").tobytes()).hexdigest()


class Truth:
    """Labels of slices, found by the values of their images.

    Args:
        data: folder of the dataset.
    """

    def __init__(self, data: Path) -> None:
        self._labels: dict[str, np.ndarray] = {}
        reader = open_dataset(data)
        for source in reader.sources():
            case = reader.read(source)
            if case.label is None:
                continue
            native = native_of(source, case)
            for number in range(case.image.shape[-1] if case.image.ndim == 4 else 1):
                layout = layout_of(case, number if case.image.ndim == 4 else None)
                image = layout(native.values)
                label = packed_mask(case.label, layout, reader.label_space)
                for axis in AXES:
                    if slice_count(image.shape[:3], axis) == 1:
                        self._labels[key_of(slice_of(image, axis, 0))] = slice_of(label, axis, 0)

    def label(self, image: np.ndarray) -> np.ndarray:
        """Label of the slice that a page shows."""
        return self._labels[key_of(image)]

    def quality(self, image: np.ndarray, mask: np.ndarray, value: int | None) -> float:
        """IoU of a mask with the label of its image, 1 where neither has the structure.

        Args:
            image: the slice.
            mask: class indices.
            value: of the structure; the mean over those that either has, where None.
        """
        label = self.label(image)
        values = [value] if value else sorted({*np.unique(label), *np.unique(mask)} - {0})
        found = []
        for one in values:
            a, b = mask == one, label == one
            whole = int((a | b).sum())
            found.append(float((a & b).sum()) / whole if whole else 1.0)
        return float(np.mean(found)) if found else 1.0


def _shown(study: StudyFolder) -> Iterator[tuple[np.ndarray, np.ndarray, int | None, float | None]]:
    """Slice, mask, value of the structure and score, of every mask of every question."""
    contents = study.contents()
    items = {one.id: one for one in contents.items}
    masks = {one.id: one for one in contents.masks}
    names = list(study.note.label_space.names)
    for pair in contents.pairs:
        item = items[pair.item]
        image = _only_slice(study, item, item.display.asset)
        value = None if pair.structure is None else names.index(pair.structure)
        for name in pair.masks:
            yield image, _only_slice(study, item, masks[name].asset), value, masks[name].score


def _only_slice(study: StudyFolder, item: Item, asset: str) -> np.ndarray:
    axis = next(one for one in AXES if slice_count(item.display.shape, one) == 1)
    return slice_of(study.read_display(asset), axis, 0)


def true_flips(study: StudyFolder, truth: Truth, votes: Iterable[VoteRow]) -> dict[str, list[int]]:
    """How often each rater chose the worse of two masks, and of how many.

    Practice, undone votes, ties and masks of equal quality do not count.
    """
    names = list(study.note.label_space.names)
    found: dict[str, list[int]] = {}
    for row in votes:
        if not row.counts or row.chosen is None or row.pair.use == "practice":
            continue
        image = _only_slice(study, row.item, row.item.display.asset)
        value = None if row.pair.structure is None else names.index(row.pair.structure)
        first, second = (
            truth.quality(image, _only_slice(study, row.item, one.asset), value)
            for one in row.masks
        )
        if first != second:
            own = found.setdefault(row.rater, [0, 0])
            own[0] += row.chosen != int(second > first)
            own[1] += 1
    return found


def spread_of(study: StudyFolder, truth: Truth) -> float:
    """Standard deviation of the true quality over all masks of a study, as often as they are shown."""
    return float(np.std([truth.quality(i, m, v) for i, m, v, _ in _shown(study)]))


def mask_scores(study: StudyFolder) -> dict[tuple[str, str], float]:
    """Stored scores of an automatic judge, by the names of image and mask."""
    return {
        (key_of(image), key_of(mask)): score
        for image, mask, _, score in _shown(study)
        if score is not None
    }
