"""Prepared cases of one dataset, read lazily from the cache."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal

import numpy as np

from segpref.data.array_files import StoredArray
from segpref.data.cache import list_digest
from segpref.data.volume_list import Array, Volume, VolumeList
from segpref.types import Case, LabelSpace, SegprefError, known_spacing

__all__ = ["Array", "Dataset", "StoredCase", "Volume", "item_of", "part_of", "stored"]

_AT_ONCE = 1024
"""Rows of a column that are looked at together."""

_READ_LATE = {"image": "images", "label": "labels", "raters": "raters"}
"""What the arrays of a case are called in its volume."""

_KNOWN = {one.name: one.default for one in fields(Case) if one.name not in _READ_LATE}


class StoredCase(Case):
    """A case of a dataset: its arrays are read when they are first asked for, and then kept.

    What was read can't be written to.
    """

    __slots__ = ("_stored",)

    @classmethod
    def of(cls, whole: Volume, item: int, /, **known: Any) -> StoredCase:
        """The case of an item of a volume, and all else that there is to know of it."""
        case = cls.__new__(cls)
        object.__setattr__(case, "_stored", (whole, item))
        for name, otherwise in _KNOWN.items():
            object.__setattr__(case, name, known.get(name, otherwise))
        return case

    def stored(self, name: str) -> Array | None:
        """One of its arrays, not read where it is on disk."""
        volume, item = self._stored
        whole = getattr(volume, _READ_LATE[name])
        return None if whole is None else _item(whole, item)

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is not there: an array that has not been read.
        if name not in _READ_LATE:
            raise AttributeError(f"a case has no {name}")
        found = self.stored(name)
        if found is not None:
            found = np.asarray(found).view()
            found.flags.writeable = False
        object.__setattr__(self, name, found)
        return found


def stored(case: Case, name: Literal["image", "label", "raters"]) -> Array | None:
    """An array of a case, not read where it is on disk: for who wants its shape, or a part of it."""
    if isinstance(case, StoredCase) and hasattr(case, "_stored"):
        return case.stored(name)
    found: Array | None = getattr(case, name)
    return found


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
        items: Sequence[tuple[int, int]] | np.ndarray | None = None,
    ) -> None:
        self.volumes = volumes if isinstance(volumes, VolumeList) else VolumeList(volumes)
        self.label_space = label_space
        # Eight bytes a case: a pool may have a hundred thousand.
        self._items = (
            _all_items(self.volumes.lengths())
            if items is None
            else np.asarray(items, np.int32).reshape(-1, 2)
        )

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, item = self._items[index].tolist()
        volume, single = self.volumes[number], self.volumes.length(number) == 1
        source = volume.source
        return StoredCase.of(
            volume,
            item,
            id=source.id if single else f"{source.id}/s{item:03d}",
            patient=source.patient,
            volume=source.id,
            spacing_mm=volume.spacing_mm,
            stratum=source.stratum,
            text=source.text,
            colour=volume.colour,
        )

    @property
    def numbers(self) -> list[int]:
        """The numbers in ``volumes`` of those with at least one case, in the order of the cases."""
        numbers = self._items[:, 0]
        first = np.sort(np.unique(numbers, return_index=True)[1])
        found: list[int] = numbers[first].tolist()
        return found

    @property
    def patients(self) -> tuple[str, ...]:
        """Patients with at least one case, sorted."""
        return tuple(sorted({self.volumes.patient(number) for number in self.numbers}))

    def of_patients(self, patients: Collection[str]) -> Dataset:
        """The cases of some patients."""
        chosen = set(patients)
        if missing := chosen - set(self.patients):
            raise SegprefError(
                f"the dataset has no patient {', '.join(sorted(missing)[:5])}: "
                "create a new split file for this dataset"
            )
        return self._of([n for n in self.numbers if self.volumes.patient(n) in chosen])

    def take(self, indices: Iterable[int]) -> Dataset:
        """The cases at these indices, in this order."""
        return self._keep(self._items[np.fromiter(indices, np.int64)])

    def labelled(self) -> Dataset:
        """The cases that have a label."""
        return self._of([number for number in self.numbers if self.volumes.has_labels(number)])

    def without_labels(self) -> Dataset:
        """The same cases with their labels taken away, those of several raters too."""
        return Dataset(self.volumes.without_labels(), self.label_space, self._items)

    def by_volume(self) -> Sequence[tuple[Volume, list[int]]]:
        """Volumes with the items of each that belong to this dataset."""
        return _ByVolume(self.volumes, self.numbers, self._items)

    def digest(self) -> str:
        """Name of the cases and of the content of their files, labels included, wherever they are."""
        name, content = self.volumes.id, self.volumes.content
        rows = ([name(number), item, content(number)] for number, item in self._pairs())
        return list_digest("cases", rows)

    def geometry(self) -> tuple[str | None, tuple[tuple[float, float], ...] | None]:
        """Where the axes of all volumes point to, and the range of their voxel sizes per axis.

        Either is None where files do not tell; the orientation also where volumes differ.
        """
        volumes = [volume for volume, _ in self.by_volume()]
        found = {volume.orientation for volume in volumes} - {None}
        sizes = [volume.voxel_mm for volume in volumes if volume.voxel_mm is not None]
        if not sizes or len({len(size) for size in sizes}) > 1:
            return None, None
        sizes = [known_spacing(size) for size in sizes]
        axes = min(map(len, sizes))
        if not axes:
            return None, None
        sizes = [size[:axes] for size in sizes]
        ranges = tuple((min(axis), max(axis)) for axis in zip(*sizes, strict=True))
        return found.pop() if len(found) == 1 else None, ranges

    def _pairs(self) -> Iterator[list[int]]:
        """Volume and item of every case; a list of all would take more memory than they do."""
        for start in range(0, len(self), _AT_ONCE):
            yield from self._items[start : start + _AT_ONCE].tolist()

    def _of(self, numbers: list[int]) -> Dataset:
        """The cases of some volumes."""
        return self._keep(self._items[np.isin(self._items[:, 0], numbers)])

    def _keep(self, items: np.ndarray) -> Dataset:
        return Dataset(self.volumes, self.label_space, items)


class _ByVolume(Sequence[tuple[Volume, list[int]]]):
    """Volumes and their items, made when they are asked for.

    Args:
        volumes: of the dataset.
        numbers: of those that it has cases of.
        items: (volume, item) of every case.
    """

    def __init__(self, volumes: VolumeList, numbers: list[int], items: np.ndarray) -> None:
        self._volumes, self._numbers = volumes, np.array(numbers, np.int32)
        order = np.argsort(items[:, 0], kind="stable")
        own, self._places = items[order].T
        self._starts = np.searchsorted(own, self._numbers)
        self._ends = np.searchsorted(own, self._numbers, side="right")

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = int(self._numbers[index])
        places = self._places[self._starts[index] : self._ends[index]]
        return self._volumes[number], places.tolist()


def _all_items(lengths: Sequence[int]) -> np.ndarray:
    """(volume, item) of every item of every volume."""
    counts = np.asarray(lengths, np.int64)
    numbers = np.repeat(np.arange(len(counts)), counts)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    items = np.arange(len(numbers)) - starts
    return np.stack([numbers, items], axis=1).astype(np.int32)
