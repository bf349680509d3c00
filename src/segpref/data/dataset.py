"""Prepared cases of one dataset, read lazily from the cache."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from segpref.data.array_files import StoredArray
from segpref.data.cache import key_digest
from segpref.data.source import Source
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["Array", "Dataset", "StoredCase", "Volume", "item_of", "part_of", "stored"]

Array = np.ndarray | StoredArray
"""In memory, or on disk until it is asked for."""

_READ_LATE = ("image", "label", "raters")
_KNOWN = {one.name: one.default for one in fields(Case) if one.name not in _READ_LATE}


@dataclass(frozen=True, slots=True)
class Volume:
    """The prepared cases of one source.

    Args:
        source: where they come from.
        key: what identifies them in the cache.
        images: ``[item, channel, *space]``.
        labels: of the images, or None.
        spacing_mm: voxel size of the network's grid, or None.
        raters: masks of several raters, or None.
        orientation: where the axes point to, such as ``RAS``, after ``turned``; None if unknown.
        voxel_mm: voxel size of the file per axis, in the order of these axes; None where unknown.
        turned: where axes were turned to that pointed elsewhere on disk; None where they were not.
        colour: whether the channels are red, green and blue.
    """

    source: Source
    key: dict[str, Any]
    images: Array
    labels: Array | None
    spacing_mm: tuple[float, ...] | None
    raters: Array | None = None
    orientation: str | None = None
    voxel_mm: tuple[float, ...] | None = None
    turned: str | None = None
    colour: bool = False


class StoredCase(Case):
    """A case of a dataset: its arrays are read when they are first asked for, and then kept.

    What was read can't be written to.
    """

    __slots__ = ("_stored",)

    @classmethod
    def of(cls, arrays: Mapping[str, Array | None], **known: Any) -> StoredCase:
        """A case with these arrays, and all else that there is to know of it."""
        case = cls.__new__(cls)
        object.__setattr__(case, "_stored", dict(arrays))
        for name, otherwise in _KNOWN.items():
            object.__setattr__(case, name, known.get(name, otherwise))
        return case

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is not there: an array that has not been read.
        if name not in _READ_LATE:
            raise AttributeError(f"a case has no {name}")
        found = self._stored[name]
        if found is not None:
            found = np.asarray(found).view()
            found.flags.writeable = False
        object.__setattr__(self, name, found)
        return found


def stored(case: Case, name: Literal["image", "label", "raters"]) -> Array | None:
    """An array of a case, not read where it is on disk: for who wants its shape, or a part of it."""
    arrays: dict[str, Array | None] = getattr(case, "_stored", {})
    return arrays[name] if name in arrays else getattr(case, name)


def item_of(case: Case) -> int:
    """Which item of its volume the case is."""
    return 0 if case.id == case.volume else int(case.id.rpartition("/s")[2])


def part_of(array: Array, case: Case, fill: float) -> np.ndarray:
    """A case's part of its volume's array ``[item, ..., *space]``; ``fill`` stands beyond the image."""
    own = _item(array, item_of(case))
    return np.asarray(own) if case.window is None else case.window.cut(own, fill)


def _item(array: Array, item: int) -> Array:
    return array.at(item) if isinstance(array, StoredArray) else array[item]


class Dataset(Sequence[Case]):
    """Cases ready for a network: slices in 2D, volumes in 3D.

    Args:
        volumes: prepared volumes.
        label_space: what the labels mean.
        items: (volume, item) of every case; default all.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        label_space: LabelSpace,
        items: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self.volumes = tuple(volumes)
        self.label_space = label_space
        if items is None:
            items = [(v, i) for v, volume in enumerate(volumes) for i in range(len(volume.images))]
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, item = self._items[index]
        volume = self.volumes[number]
        single = len(volume.images) == 1
        arrays = {"image": volume.images, "label": volume.labels, "raters": volume.raters}
        return StoredCase.of(
            {name: None if one is None else _item(one, item) for name, one in arrays.items()},
            id=volume.source.id if single else f"{volume.source.id}/s{item:03d}",
            patient=volume.source.patient,
            volume=volume.source.id,
            spacing_mm=volume.spacing_mm,
            stratum=volume.source.stratum,
            text=volume.source.text,
            colour=volume.colour,
        )

    @property
    def patients(self) -> tuple[str, ...]:
        """Patients with at least one case, sorted."""
        return tuple(sorted({self.volumes[number].source.patient for number, _ in self._items}))

    def of_patients(self, patients: Collection[str]) -> Dataset:
        """The cases of some patients."""
        chosen = set(patients)
        if missing := chosen - set(self.patients):
            raise SegprefError(
                f"the dataset has no patient {', '.join(sorted(missing)[:5])}: "
                "create a new split file for this dataset"
            )
        return self._keep(
            [pair for pair in self._items if self.volumes[pair[0]].source.patient in chosen]
        )

    def take(self, indices: Iterable[int]) -> Dataset:
        """The cases at these indices, in this order."""
        return self._keep([self._items[i] for i in indices])

    def labelled(self) -> Dataset:
        """The cases that have a label."""
        return self._keep(
            [pair for pair in self._items if self.volumes[pair[0]].labels is not None]
        )

    def without_labels(self) -> Dataset:
        """The same cases with their labels taken away, those of several raters too."""
        stripped = [replace(volume, labels=None, raters=None) for volume in self.volumes]
        return Dataset(stripped, self.label_space, self._items)

    def by_volume(self) -> list[tuple[Volume, list[int]]]:
        """Volumes with the items of each that belong to this dataset."""
        grouped: dict[int, list[int]] = {}
        for number, item in self._items:
            grouped.setdefault(number, []).append(item)
        return [(self.volumes[number], items) for number, items in grouped.items()]

    def digest(self) -> str:
        """Name of the cases and of the content of their files, labels included, wherever they are."""
        files = [volume.key.get("content", volume.key) for volume in self.volumes]
        cases = [[self.volumes[v].source.id, item, files[v]] for v, item in self._items]
        return key_digest({"cases": cases})

    def geometry(self) -> tuple[str | None, tuple[tuple[float, float], ...] | None]:
        """Where the axes of all volumes point to, and the range of their voxel sizes per axis.

        Either is None where files do not tell; the orientation also where volumes differ.
        """
        volumes = [volume for volume, _ in self.by_volume()]
        found = {volume.orientation for volume in volumes} - {None}
        sizes = [volume.voxel_mm for volume in volumes if volume.voxel_mm is not None]
        if not sizes or len({len(size) for size in sizes}) > 1:
            return None, None
        ranges = tuple((min(axis), max(axis)) for axis in zip(*sizes, strict=True))
        return found.pop() if len(found) == 1 else None, ranges

    def _keep(self, items: Sequence[tuple[int, int]]) -> Dataset:
        return Dataset(self.volumes, self.label_space, items)
