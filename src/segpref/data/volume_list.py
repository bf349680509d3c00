"""Prepared images of a dataset, and lists of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np

from segpref.data.array_files import StoredArray
from segpref.data.source import Source

__all__ = ["Array", "Volume", "VolumeList"]

Array = np.ndarray | StoredArray
"""In memory, or on disk until it is asked for."""


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

    @property
    def pixel(self) -> tuple[float, str]:
        """What a pixel or voxel of the network's grid holds, and its unit.

        Millilitres (``ml``) where all three sizes are known; of slices the third one is that of the
        file. Square centimetres (``cm²``) of an image with two axes; ``(1.0, "voxels")`` where a size
        is not known.
        """
        sizes = self.spacing_mm or ()
        if len(sizes) == 2 and self.voxel_mm is not None:
            sizes = (*sizes, *self.voxel_mm[2:])
        if not sizes or not all(math.isfinite(size) for size in sizes):
            return 1.0, "voxels"
        if len(sizes) == 2:
            # What is known of slices without a distance is an area each, and no volume.
            return (math.prod(sizes) / 100, "cm²") if len(self.images) == 1 else (1.0, "voxels")
        return math.prod(sizes) / 1000, "ml"


class VolumeList(Sequence[Volume]):
    """Volumes, with what is asked of many of them at once.

    Args:
        volumes: which; of one id there may be several.
    """

    def __init__(self, volumes: Iterable[Volume]) -> None:
        self._volumes: Sequence[Volume] = tuple(volumes)

    def __len__(self) -> int:
        return len(self._volumes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        return self._volume(range(len(self))[index])

    def _volume(self, number: int) -> Volume:
        return self._volumes[number]

    def lengths(self) -> Sequence[int]:
        """How many items each volume has."""
        return [self.length(number) for number in range(len(self))]

    def length(self, number: int) -> int:
        """How many items a volume has."""
        return len(self._volume(number).images)

    def id(self, number: int) -> str:
        """The id of a volume's source."""
        return self._volume(number).source.id

    def patient(self, number: int) -> str:
        """Whom a volume is of."""
        return self._volume(number).source.patient

    def content(self, number: int) -> Any:
        """What identifies the content of a volume's files, wherever they are."""
        key = self._volume(number).key
        return key.get("content", key)

    def has_labels(self, number: int) -> bool:
        """Whether there is a label."""
        return self._volume(number).labels is not None

    def without_labels(self) -> VolumeList:
        """The same volumes without labels, those of several raters too; the same list every time."""
        return self._without_labels

    def numbers_of(self, name: str) -> list[int]:
        """The numbers of the volumes with this id."""
        hashes, order = self._by_name
        low, high = np.searchsorted(hashes, [_hash(name), _hash(name) + 1])
        return [number for number in order[low:high].tolist() if self.id(number) == name]

    @cached_property
    def _without_labels(self) -> VolumeList:
        return VolumeList(replace(volume, labels=None, raters=None) for volume in self)

    @cached_property
    def _by_name(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted hashes of the ids, and whose they are: a dict takes ten times the memory."""
        count = len(self)
        hashes = np.fromiter((_hash(self.id(number)) for number in range(count)), np.int64, count)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return hashes[order], order


def _hash(name: str) -> int:
    return crc32(name.encode(errors="surrogatepass"))
