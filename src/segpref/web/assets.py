"""Images and masks for the page, slice by slice, from a memory of those last used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from segpref.collect import Axis, slice_of

__all__ = ["Assets", "slice_bytes"]

_AT_ONCE = 4
"""Files that are decompressed at the same time: each needs memory beyond what is kept."""


class Assets:
    """Unpacked images and masks, those last used, up to a number of bytes.

    Args:
        read: reads one by its name.
        most_bytes: how much is kept.
    """

    def __init__(self, read: Callable[[str], np.ndarray], most_bytes: int) -> None:
        self._read = read
        self._most = most_bytes
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Event] = {}
        self._places = threading.Semaphore(_AT_ONCE)

    @property
    def held_bytes(self) -> int:
        """How much is kept now."""
        return self._bytes

    def get(self, name: str) -> np.ndarray:
        """An image or a mask; of several who ask for it at the same time, one reads it."""
        while True:
            with self._lock:
                if (found := self._kept.get(name)) is not None:
                    self._kept.move_to_end(name)
                    return found
                done = self._reading.get(name)
                if done is None:
                    self._reading[name] = threading.Event()
                    break
            done.wait()
            # It is there, was too large to keep, or could not be read: look again.
        try:
            with self._places:
                values = self._read(name)
            self._keep(name, values)
            return values
        finally:
            with self._lock:
                self._reading.pop(name).set()

    def _keep(self, name: str, values: np.ndarray) -> None:
        if values.nbytes > self._most:
            return
        with self._lock:
            self._kept[name] = values
            self._bytes += values.nbytes
            while self._bytes > self._most:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes


def slice_bytes(
    volumes: Sequence[np.ndarray], axis: Axis, index: int, dtype: np.dtype
) -> tuple[bytes, tuple[int, ...]]:
    """Slices of several volumes one after the other, row by row, little endian.

    Returns:
        The bytes and the shape of one slice.
    """
    cuts = [slice_of(one, axis, index) for one in volumes]
    told = dtype.newbyteorder("<")
    parts = [np.ascontiguousarray(one, told).tobytes() for one in cuts]
    return b"".join(parts), cuts[0].shape
