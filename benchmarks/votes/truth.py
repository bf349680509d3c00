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

__all__ = ["AXES", "Truth", "along", "below_own", "mask_scores", "spread_of", "true_flips"]

AXES: tuple[Axis, ...] = ("axial", "coronal", "sagittal")


def key_of(values: np.ndarray) -> str:
    """A name of an image by its values."""
    plain = np.ascontiguousarray(values)
    return hashlib.sha256(f"{plain.shape}".encode() + plain.astype("<f4").tobytes()).hexdigest()


def along(volume: np.ndarray, axis: Axis) -> np.ndarray:
    """What a page shows of a volume, all slices along an axis; the slice itself where there is one."""
    count = slice_count(volume.shape[:3], axis)
    slices = [slice_of(volume, axis, number) for number in range(count)]
    return slices[0] if count == 1 else np.stack(slices)


class Truth:
    """Labels of slices and volumes, found by the values of any slice of the image that is shown.

    Args:
        data: folder of the dataset.
    """

    def __init__(self, data: Path) -> None:
        self._labels: dict[tuple[int, str], np.ndarray] = {}
        reader = open_dataset(data)
        for source in reader.sources():
            case = reader.read(source)
            if case.label is None:
                continue
            values = native_of(source, case).values
            # As models of volumes show it, and as models of slices do.
            shown = [None, *range(case.image.shape[-1])] if case.image.ndim == 4 else [None]
            for number in shown:
                layout = layout_of(case, number)
                image, label = layout(values), packed_mask(case.label, layout, reader.label_space)
                for axis in _shown_along(image.shape[:3]):
                    truth = along(label, axis)
                    for place in range(slice_count(image.shape[:3], axis)):
                        name = key_of(slice_of(image, axis, place))
                        self._labels[truth.ndim, name] = truth

    def label(self, image: np.ndarray, dims: int = 2) -> np.ndarray:
        """Label of a slice that a page shows, or (3) of all slices of its volume along that axis."""
        return self._labels[dims, key_of(image)]

    def quality(self, image: np.ndarray, mask: np.ndarray, value: int | None) -> float:
        """IoU of a mask with the label of its image, 1 where neither has the structure.

        Args:
            image: the slice, or any slice of the volume.
            mask: class indices, of all slices of a volume.
            value: of the structure; the mean over those that either has, where None.
        """
        label = self.label(image, mask.ndim)
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
        image = _image_of(study, item)
        value = None if pair.structure is None else names.index(pair.structure)
        for name in pair.masks:
            yield image, _mask_of(study, item, masks[name].asset), value, masks[name].score


def _shown_along(shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """The axes along which an image has slices to show: that of its only slice, or all three."""
    alone = tuple(axis for axis in AXES if slice_count((shape[0], shape[1], shape[2]), axis) == 1)
    return alone or AXES


def _image_of(study: StudyFolder, item: Item) -> np.ndarray:
    """The only slice of an image, or one from the middle of a volume."""
    volume = study.read_display(item.display.asset)
    axis = _shown_along(volume.shape)[0]
    return slice_of(volume, axis, slice_count(volume.shape[:3], axis) // 2)


def _mask_of(study: StudyFolder, item: Item, asset: str) -> np.ndarray:
    return along(study.read_display(asset), _shown_along(item.display.shape)[0])


def true_flips(study: StudyFolder, truth: Truth, votes: Iterable[VoteRow]) -> dict[str, list[int]]:
    """How often each rater chose the worse of two masks, and of how many.

    Practice, undone votes, ties and masks of equal quality do not count.
    """
    names = list(study.note.label_space.names)
    found: dict[str, list[int]] = {}
    for row in votes:
        if not row.counts or row.chosen is None or row.pair.use == "practice":
            continue
        image = _image_of(study, row.item)
        value = None if row.pair.structure is None else names.index(row.pair.structure)
        first, second = (
            truth.quality(image, _mask_of(study, row.item, one.asset), value) for one in row.masks
        )
        if first != second:
            own = found.setdefault(row.rater, [0, 0])
            own[0] += row.chosen != int(second > first)
            own[1] += 1
    return found


def below_own(study: StudyFolder, truth: Truth, votes: Iterable[VoteRow]) -> dict[str, float]:
    """How the chosen mask compares with the model's own, in the structure that was asked about.

    Of decided votes on images of which a question shows the model's own mask: their number, the share
    in which the chosen one is worse than it, and by how much it is better in the mean (IoU).
    """
    contents, names = study.contents(), list(study.note.label_space.names)
    own = {one.item: one for one in contents.masks if one.family == "anchor"}
    gains = []
    for row in votes:
        if not row.counts or row.chosen is None or row.pair.use != "normal":
            continue
        if row.item.id in own:
            image = _image_of(study, row.item)
            value = None if row.pair.structure is None else names.index(row.pair.structure)
            chosen, before = (
                truth.quality(image, _mask_of(study, row.item, one.asset), value)
                for one in (row.masks[row.chosen], own[row.item.id])
            )
            gains.append(chosen - before)
    return {
        "votes": len(gains),
        "worse": float(np.mean(np.array(gains) < -1e-9)) if gains else float("nan"),
        "mean_gain": float(np.mean(gains)) if gains else float("nan"),
    }


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
