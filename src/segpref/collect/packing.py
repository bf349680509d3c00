"""Packed images and masks: compressed arrays with a checksum, and no code in them."""

from __future__ import annotations

import zlib

import numpy as np

from segpref.disk import Damaged, checksum, from_checked_json, to_checked_json

__all__ = ["pack", "unpack"]

_FAST = 1
"""Level of compression: higher ones take several times as long and save little of a scan."""

_MOST_BYTES = 2**36


def pack(array: np.ndarray) -> bytes:
    """An array of numbers as bytes: a line of JSON, then the compressed values, little endian."""
    values = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    data = zlib.compress(values.tobytes(), _FAST)
    found = checksum()
    found.update(data)
    note = {"dtype": values.dtype.str, "shape": list(values.shape), "data": found.hexdigest()}
    return to_checked_json(note) + b"\n" + data


def unpack(packed: bytes) -> np.ndarray:
    """The array back; it can't be written to.

    Raises:
        Damaged: the bytes are not what was packed.
    """
    head, line, data = packed.partition(b"\n")
    note = from_checked_json(head)
    found = checksum()
    found.update(data)
    try:
        dtype, shape = np.dtype(str(note["dtype"])), tuple(int(n) for n in note["shape"])
        stated = str(note["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("it is no packed image") from error
    size = dtype.itemsize
    for length in shape:
        size *= length
    if not line or dtype.kind not in "biuf" or not 0 <= size <= _MOST_BYTES:
        raise Damaged("it is no packed image")
    if found.hexdigest() != stated:
        raise Damaged("its checksum does not match")
    inflate = zlib.decompressobj()
    try:
        # No more than is due: a small file must not fill the memory.
        values = inflate.decompress(data, size + 1)
    except zlib.error as error:
        raise Damaged("its values can't be decompressed") from error
    if len(values) != size:
        raise Damaged("it holds more or fewer values than it says")
    return np.frombuffer(values, dtype).reshape(shape)
