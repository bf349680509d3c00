"""Opens DICOM files, whose content may be deflated, without taking more memory than they are worth."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segpref.late import late
from segpref.types import SegprefError

__all__ = ["read_dicom"]

pydicom = late("pydicom")

_DEFLATED = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
"""The transfer syntax, with its tag."""
_MARK, _LENGTH = b"DICM", b"\x02\x00\x00\x00UL\x04\x00"
_START = 128
_HEAD = 4096
_PART = 1 << 20
_MOST = 1 << 30
"""Bytes that a deflated file may hold. It could hold a thousand times its own length."""


def read_dicom(
    path: Path, stop_before_pixels: bool = False, specific_tags: Sequence[str] | None = None
) -> Any:
    """What pydicom reads of a file, which may lack the preamble.

    Args:
        path: the file.
        stop_before_pixels: whether what comes before the pixels is enough.
        specific_tags: names of those that are read; all where None.

    Raises:
        SegprefError: a deflated file that holds more than a GiB.
        Exception: whatever pydicom stumbles over in a damaged file.
    """
    _check_size(path)
    tags = None if specific_tags is None else list(specific_tags)
    return pydicom.dcmread(
        path, stop_before_pixels=stop_before_pixels, force=True, specific_tags=tags
    )


def _check_size(path: Path) -> None:
    """Refuse a deflated file that would fill the memory; its content is counted and not kept."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if _DEFLATED not in head:
            return
        known = len(_MARK) + len(_LENGTH)
        if head[_START : _START + known] != _MARK + _LENGTH:
            raise ValueError("a deflated file that does not say where its content begins")
        behind = _START + known
        length = int.from_bytes(head[behind : behind + 4], "little")
        file.seek(behind + 4 + length)
        inflating, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not inflating.eof and (part := inflating.unconsumed_tail or file.read(_PART)):
            count += len(inflating.decompress(part, _PART))
            if count > _MOST:
                raise SegprefError(
                    f"{path} is deflated and holds more than {_MOST >> 20} MiB: export it without "
                    "that compression (Explicit VR Little Endian)"
                )
