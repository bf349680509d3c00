"""Packed images and masks: compressed arrays with a checksum, and no code in them."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import numpy as np

from segpref.disk import Damaged, checksum, from_checked_json, to_checked_json

__all__ = ["pack", "unpack"]

_FAST = 1
"""Level of compression: higher ones take several times as long and save little of a scan."""

_MOST_BYTES = 2**36

_PART_BYTES = 2**22
"""Parts of a volume are compressed by themselves, so that several cores unpack it."""


def pack(array: np.ndarray) -> bytes:
    """An array of numbers as bytes: a line of JSON, then the compressed values, little endian."""
    values = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    plain = values.reshape(-1).view(np.uint8).data
    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(_deflated, (plain[a:b] for a, b in _bounds(len(plain)))))
    data = b"".join(parts)
    found = checksum()
    found.update(data)
    note = {
        "dtype": values.dtype.str, "shape": list(values.shape), "parts": list(map(len, parts)),
        "data": found.hexdigest(),
    }  # fmt: skip
    return to_checked_json(note) + b"\n" + data


def unpack(packed: bytes) -> np.ndarray:
    """The array back; it can't be written to.

    Raises:
        Damaged: the bytes are not what was packed.
    """
    end = packed.find(b"\n")
    note, data = from_checked_json(packed[:end]), memoryview(packed)[end + 1 :]
    found = checksum()
    found.update(data)
    try:
        dtype, shape = np.dtype(str(note["dtype"])), tuple(int(n) for n in note["shape"])
        lengths, stated = [int(n) for n in note["parts"]], str(note["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("it is no packed image") from error
    size = dtype.itemsize
    for length in shape:
        size *= length
    if end < 0 or dtype.kind not in "biuf" or min(shape, default=0) < 0 or size > _MOST_BYTES:
        raise Damaged("it is no packed image")
    bounds = _bounds(size)
    if found.hexdigest() != stated or len(lengths) != len(bounds) or sum(lengths) != len(data):
        raise Damaged("its checksum does not match")
    values = np.empty(size, np.uint8)

    def inflate(part: tuple[tuple[int, int], int, int]) -> None:
        (start, stop), last, length = part
        # No more than is due: a small file must not fill the memory.
        plain = zlib.decompressobj().decompress(data[last - length : last], stop - start + 1)
        if len(plain) != stop - start:
            raise Damaged("it holds more or fewer values than it says")
        values[start:stop] = np.frombuffer(plain, np.uint8)

    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(inflate, zip(bounds, accumulate(lengths), lengths, strict=True)))
    except zlib.error as error:
        raise Damaged("its values can't be decompressed") from error
    values.flags.writeable = False
    return values.view(dtype).reshape(shape)


def _deflated(plain: memoryview) -> bytes:
    return zlib.compress(plain, _FAST)


def _bounds(size: int) -> list[tuple[int, int]]:
    """Where the parts of so many bytes begin and end."""
    return [(at, min(at + _PART_BYTES, size)) for at in range(0, size, _PART_BYTES)]
