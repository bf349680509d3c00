"""Packed images and masks: compressed arrays with a checksum, and no code in them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import numpy as np

from segpref.disk import Damaged, checksum, from_checked_json, to_checked_json

__all__ = ["PackedArray", "pack", "unpack"]

_FAST = 1
"""Level of compression: higher ones take several times as long and save little of a scan."""

_MOST_BYTES = 2**36

_PART_BYTES = 2**22
"""Parts of a volume are compressed by themselves: one slice does not wait for all others, and several
cores unpack them."""


def pack(array: np.ndarray) -> bytes:
    """An array of numbers as bytes: a line of JSON, then the compressed values, little endian."""
    values = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    plain = values.reshape(-1).view(np.uint8).data
    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(_deflated, (plain[a:b] for a, b in _bounds(len(plain)))))
        sums = list(pool.map(_sum_of, parts))
    note = {
        "dtype": values.dtype.str, "shape": list(values.shape), "parts": list(map(len, parts)),
        "sums": sums,
    }  # fmt: skip
    return to_checked_json(note) + b"\n" + b"".join(parts)


def unpack(packed: bytes) -> np.ndarray:
    """The array back; it can't be written to.

    Raises:
        Damaged: the bytes are not what was packed.
    """
    return PackedArray(packed).whole()


class PackedArray:
    """A packed array of which only what is asked for is unpacked; threads may share it.

    Args:
        packed: what :func:`pack` gave.

    Raises:
        Damaged: the bytes are not what was packed. Values are checked when they are unpacked.
    """

    def __init__(self, packed: bytes) -> None:
        end = packed.find(b"\n")
        note, self._data = from_checked_json(packed[:end]), memoryview(packed)[end + 1 :]
        try:
            dtype, shape = np.dtype(str(note["dtype"])), tuple(int(n) for n in note["shape"])
            lengths, self._sums = [int(n) for n in note["parts"]], [str(n) for n in note["sums"]]
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged("it is no packed image") from error
        size = dtype.itemsize
        for length in shape:
            size *= length
        if end < 0 or dtype.kind not in "biuf" or min(shape, default=0) < 0 or size > _MOST_BYTES:
            raise Damaged("it is no packed image")
        self._bounds = _bounds(size)
        if (
            not len(lengths) == len(self._sums) == len(self._bounds)
            or min(lengths, default=0) < 0
            or sum(lengths) != len(self._data)
        ):
            raise Damaged("its checksum does not match")
        self._ends = [0, *accumulate(lengths)]
        self._missing, self._last = set(range(len(lengths))), 0
        self._plain = np.empty(size, np.uint8)
        self._values = self._plain.view(dtype).reshape(shape)
        self._values.flags.writeable = False

    @property
    def nbytes(self) -> int:
        """How much memory it takes, unpacked and packed."""
        return self._plain.nbytes + len(self._data)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """A piece of the first axis.

        Raises:
            Damaged: its values are not what was packed.
        """
        found = self._values[start:stop]
        if found.size:
            row = self._plain.nbytes // len(self._values)
            first, last = start * row // _PART_BYTES, (stop * row - 1) // _PART_BYTES
            self._last = last
            self._inflate(range(first, last + 1))
        return found

    def whole(self) -> np.ndarray:
        """All of it.

        Raises:
            Damaged: its values are not what was packed.
        """
        self._inflate(range(len(self._sums)))
        return self._values

    def unpack_rest(self) -> None:
        """Unpack what nobody has asked for yet, part by part, so that a core is left for who asks.

        It begins next to what was asked for last.

        Raises:
            Damaged: its values are not what was packed.
        """
        for _ in range(len(self._missing)):
            left = self._missing.copy()
            if left:
                self._inflate([min(left, key=lambda part: abs(part - self._last))])

    def _inflate(self, parts: Iterable[int]) -> None:
        wanted = [part for part in parts if part in self._missing]
        try:
            if len(wanted) < 2:
                for part in wanted:
                    self._inflate_part(part)
            else:
                with ThreadPoolExecutor() as pool:
                    list(pool.map(self._inflate_part, wanted))
        except zlib.error as error:
            raise Damaged("its values can't be decompressed") from error

    def _inflate_part(self, part: int) -> None:
        # Two threads may unpack the same part: they write the same values.
        start, stop = self._bounds[part]
        data = self._data[self._ends[part] : self._ends[part + 1]]
        if _sum_of(data) != self._sums[part]:
            raise Damaged("its checksum does not match")
        # No more than is due: a small file must not fill the memory.
        plain = zlib.decompressobj().decompress(data, stop - start + 1)
        if len(plain) != stop - start:
            raise Damaged("it holds more or fewer values than it says")
        self._plain[start:stop] = np.frombuffer(plain, np.uint8)
        self._missing.discard(part)


def _sum_of(data: bytes | memoryview) -> str:
    found = checksum()
    found.update(data)
    return found.hexdigest()


def _deflated(plain: memoryview) -> bytes:
    return zlib.compress(plain, _FAST)


def _bounds(size: int) -> list[tuple[int, int]]:
    """Where the parts of so many bytes begin and end."""
    return [(at, min(at + _PART_BYTES, size)) for at in range(0, size, _PART_BYTES)]
