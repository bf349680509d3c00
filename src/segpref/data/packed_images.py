"""The images of a packed dataset without their labels: the input of ``predict``, or a pool."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segpref.data.packed import PACK_FILE, UNREADABLE, Packed
from segpref.data.source import Source
from segpref.data.source_list import SourceList
from segpref.types import Case, SegprefError

__all__ = ["PackedImages", "is_pack", "packed_ending"]


class PackedImages:
    """What :func:`~segpref.data.packed.write_pack` wrote, read as images alone.

    Args:
        root: folder that holds pack.json.
        channels: names of the channels that every image must have.

    Raises:
        SegprefError: no pack, or one of images with another number of channels.
    """

    label_space: None = None
    patients_known: bool = False

    def __init__(self, root: Path | str, channels: Sequence[str]) -> None:
        self._pack = Packed(root)
        if len(self._pack.channels) != len(channels):
            raise SegprefError(
                f"{root} holds images of {len(self._pack.channels)} channels "
                f"({', '.join(self._pack.channels)}), but {len(channels)} are expected "
                f"({', '.join(channels)}): use images with exactly these"
            )
        self.channels: tuple[str, ...] = tuple(channels)
        self._sources = SourceList(replace(one, labels=()) for one in self._pack.sources())
        # A packed volume is its own label.
        self._labelled = frozenset(one.id for one in self._pack.sources() if one.labels)

    def sources(self) -> Sequence[Source]:
        """One source per volume."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The volume with its geometry; ``label`` is None."""
        if source.id in self._labelled:
            source = replace(source, labels=source.images)
        case = self._pack.read(source)
        return replace(case, label=None, raters=None)


def is_pack(folder: Path) -> bool:
    """Whether a folder holds a packed dataset."""
    return (folder / PACK_FILE).is_file()


def packed_ending(path: Path) -> str:
    """The ending of the mask of a packed volume: NIfTI where it has an affine, else PNG, or TIFF in 3D.

    One that is damaged has some ending: reading it says what is wrong.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if "affine.npy" in archive.namelist():
                return ".nii.gz"
            with archive.open("image.npy") as entry:
                np.lib.format.read_magic(entry)
                shape, _, _ = np.lib.format.read_array_header_1_0(entry)
        return ".png" if len(shape) == 3 else ".tif"
    except UNREADABLE:
        return ".nii.gz"
