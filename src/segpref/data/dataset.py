"""Prepared cases of one dataset, read from the cache when they are asked for."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from segpref.data.cache import Cache
from segpref.data.orientation import orientation_of, reordered
from segpref.data.preparation import ImagePreparation, Preparation, check_prepared
from segpref.data.source import Reader, Source
from segpref.data.stored import StoredArray
from segpref.progress import console, track
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["Array", "Dataset", "StoredCase", "Volume", "item_of", "part_of", "prepare", "stored"]

Array = np.ndarray | StoredArray
"""In memory, or on disk until it is asked for."""

_READ_LATE = ("image", "label", "raters")
_KNOWN = {one.name: one.default for one in fields(Case) if one.name not in _READ_LATE}

PREPARATION_VERSION = 2
"""Part of every key: raise it when prepared arrays change for equal settings."""


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
        orientation: where the axes point to, such as ``RAS``, after ``turned``; None where nothing
            tells.
        voxel_mm: voxel size of the file per axis, in the order of these axes; None where unknown.
        turned: where axes were turned to that pointed elsewhere on disk; None where they were not.
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
        # Asked only for what is not there: an array that nobody has read.
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
                "make the split file anew for this dataset"
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


def prepare(
    reader: Reader,
    # In YAML it is settings, of which a protocol alone can't be made.
    preparation: Preparation | ImagePreparation,
    cache: Cache | None = None,
    label_space: LabelSpace | None = None,
    orientation: str | None = None,
) -> Dataset:
    """Read, check and prepare every source once; later calls only look into the cache.

    Volumes whose axes point elsewhere than those of the others (or than ``orientation``) are turned,
    unless the preparation turns all of them or is somebody else's.

    Args:
        reader: the dataset on disk.
        preparation: from image to network input.
        cache: where prepared images are kept.
        label_space: for images without labels, the one of the model that they are for.
        orientation: where axes are to point to, as in a model's training; where most do if None.
    """
    cache = cache or Cache()
    label_space = reader.label_space or label_space
    if label_space is None:
        raise SegprefError(
            f"{reader!r} has no labels: name the label space, or use labelled images"
        )
    sources = list(reader.sources())
    if not sources:
        raise SegprefError(f"{reader!r} has no images: check the folder")
    volumes = [
        _prepared(reader, source, preparation, cache, label_space)
        for source in track(sources, "preparing images", len(sources))
    ]
    volumes = _of_one_orientation(reader, volumes, preparation, cache, label_space, orientation)
    _check_alike(volumes, preparation)
    return Dataset(volumes, label_space)


def _prepared(
    reader: Reader,
    source: Source,
    preparation: ImagePreparation,
    cache: Cache,
    label_space: LabelSpace,
    turned: str | None = None,
) -> Volume:
    key = {
        "what": "prepared volume",
        "version": PREPARATION_VERSION,
        "content": cache.digest_of_files([*source.images, *source.labels]),
        "reader": type(reader).__name__,
        "options": _options(reader),
        "channels": list(reader.channels),
        "labels": [label_space.kind, *label_space.names],
        "preparation": preparation.as_key(),
    }
    if label_space.on_disk:
        key["values"] = list(label_space.on_disk)
    # Not always: what was prepared before there was such a key stays valid.
    if source.key is not None:
        key["source"] = source.key

    def compute() -> dict[str, np.ndarray]:
        case = reader.read(source)
        prepared = preparation.apply(case)
        check_prepared(prepared.images, source.images[0])
        arrays = {"images": prepared.images.astype(np.float32)}
        if prepared.labels is not None:
            arrays["labels"] = prepared.labels
        if prepared.raters is not None:
            arrays["raters"] = prepared.raters
        if prepared.spacing_mm is not None:
            arrays["spacing_mm"] = np.array(prepared.spacing_mm)
        if case.spacing_mm is not None:
            codes = [ord(letter) for letter in orientation_of(case) or ""]
            arrays["voxels"] = np.array([*codes, *case.spacing_mm], np.float64)
        return arrays

    arrays = cache.entry(key, compute)
    spacing, voxels = arrays.get("spacing_mm"), arrays.get("voxels")
    own, voxel_mm = _told(None if voxels is None else np.asarray(voxels).tolist())
    if own is not None and voxel_mm is not None and turned is not None:
        own, voxel_mm = turned, reordered(voxel_mm, own, turned)
    return Volume(
        source=source,
        key=key,
        images=arrays["images"],
        labels=arrays.get("labels"),
        spacing_mm=None if spacing is None else tuple(float(step) for step in np.asarray(spacing)),
        raters=arrays.get("raters"),
        orientation=own,
        voxel_mm=voxel_mm,
        turned=turned,
    )


def _told(voxels: list[float] | None) -> tuple[str | None, tuple[float, ...] | None]:
    """Orientation and voxel size, as an entry of the cache holds them: letters, then millimetres."""
    if voxels is None:
        return None, None
    if len(voxels) <= 3:
        return None, tuple(voxels)
    return "".join(chr(int(code)) for code in voxels[:3]), tuple(voxels[3:])


def _of_one_orientation(
    reader: Reader,
    volumes: list[Volume],
    preparation: ImagePreparation,
    cache: Cache,
    label_space: LabelSpace,
    orientation: str | None,
) -> list[Volume]:
    """The volumes, those anew whose axes point elsewhere."""
    if not isinstance(preparation, Preparation) or preparation.orientation is not None:
        return volumes
    counts = Counter(volume.orientation for volume in volumes if volume.orientation)
    if not counts or (orientation is None and len(counts) == 1):
        return volumes
    # Of equally many the first in the alphabet, so that the order of files does not matter.
    wanted = orientation or min(counts, key=lambda codes: (-counts[codes], codes))
    odd = [one for one in volumes if one.orientation not in (None, wanted)]
    if odd:
        console.print(
            f"{len(odd)} of {len(volumes)} volumes, such as {odd[0].source.id}, have axes that do not "
            f"point to {wanted} ({odd[0].orientation}): they are turned as "
            f"{'the model was trained' if orientation else 'the others are'}.",
            soft_wrap=True,
        )
    if unknown := [one.source.id for one in volumes if one.orientation is None]:
        console.print(
            f"{len(unknown)} of {len(volumes)} images, such as {unknown[0]}, do not say where their "
            "axes point to: they are taken as they are.",
            soft_wrap=True,
        )
    turning = replace(preparation, orientation=wanted)
    return [
        _prepared(reader, one.source, turning, cache, label_space, wanted)
        if one.orientation not in (None, wanted)
        else one
        for one in volumes
    ]


def _options(reader: Reader) -> dict[str, Any]:
    """Settings of a reader that change what it reads from the same files, such as a threshold."""
    names = inspect.signature(type(reader)).parameters
    kept = {name: getattr(reader, name, getattr(reader, f"_{name}", None)) for name in names}
    return {name: value for name, value in kept.items() if isinstance(value, bool | int | float)}


def _check_alike(volumes: Sequence[Volume], preparation: ImagePreparation) -> None:
    first = volumes[0]
    for volume in volumes:
        if volume.images.shape[1] != first.images.shape[1]:
            raise SegprefError(
                f"{volume.source.id} has {volume.images.shape[1]} channels but {first.source.id} has "
                f"{first.images.shape[1]}: all images of a dataset need the same channels"
            )
        # A preparation with a patch gives whole volumes, from which patches are cut.
        if preparation.patch is not None:
            continue
        if volume.images.shape[2:] != first.images.shape[2:]:
            raise SegprefError(
                f"{volume.source.id} is {volume.images.shape[2:]} voxels and {first.source.id} "
                f"{first.images.shape[2:]}: set crop or size in the preparation so that all agree, or "
                "patch for a network that sees patches"
            )
