"""Packed images and masks on disk, as they are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segpref.collect.contents_file import is_opaque
from segpref.collect.packing import PackedArray, pack
from segpref.collect.slices import Axis, slice_of
from segpref.data.cache import write_atomically
from segpref.disk import Damaged, cannot_read
from segpref.types import SegprefError

__all__ = ["Display", "bytes_of", "changed", "display_file", "write_display"]


class Display:
    """An image or a mask as it is shown, of which only what is asked for is unpacked.

    Args:
        file: where it is.

    Raises:
        SegprefError: no such file, or not what was written. Values are checked when they are unpacked.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._packed = PackedArray(bytes_of(file))
        except Damaged as error:
            raise changed(file, error) from error

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return self._packed.nbytes

    def slice(self, axis: Axis, index: int) -> np.ndarray:
        """One slice, as :func:`~segpref.collect.slice_of` cuts it.

        Raises:
            SegprefError: the file is damaged there.
        """
        if axis != "axial":
            return slice_of(self.whole(), axis, index)
        try:
            return slice_of(self._packed.rows(index, index + 1), axis, 0)
        except Damaged as error:
            raise changed(self._file, error) from error

    def unpack_rest(self) -> None:
        """Make all other slices ready, without haste.

        Raises:
            SegprefError: the file is damaged.
        """
        try:
            self._packed.unpack_rest()
        except Damaged as error:
            raise changed(self._file, error) from error

    def whole(self) -> np.ndarray:
        """All of it, ``[z, y, x]`` or ``[z, y, x, 3]``.

        Raises:
            SegprefError: the file is damaged.
        """
        try:
            return self._packed.whole()
        except Damaged as error:
            raise changed(self._file, error) from error


def display_file(study: Path, asset: str) -> Path:
    """The file of an asset.

    Raises:
        SegprefError: no opaque name.
    """
    if not is_opaque(asset):
        raise SegprefError("an asset is named by an opaque id: ask for one of the study's own")
    return study / "display" / f"{asset}.bin"


def write_display(study: Path, asset: str, values: np.ndarray) -> None:
    """Keep an image or a mask as it is shown."""
    write_atomically(display_file(study, asset), pack(values))


def bytes_of(file: Path) -> bytes:
    """What a file of a study holds.

    Raises:
        SegprefError: it is missing or can't be read.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise SegprefError(f"{file} is missing: restore it, or make the study again") from error
    except OSError as error:
        raise cannot_read(file, error) from error


def changed(file: Path, error: Damaged) -> SegprefError:
    """That a file of a study is not what was written."""
    return SegprefError(
        f"{file} is not what was written ({error}): restore it, or make the study again"
    )
