"""Images and masks for the page, slice by slice, from a memory of those last used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from segpref.collect import Axis, Display
from segpref.types import SegprefError

__all__ = ["Assets", "slice_bytes"]

_AT_ONCE = 4
"""Files that are opened at the same time: each needs memory beyond what is kept."""


class Assets:
    """Opened images and masks, those last used, up to a number of bytes.

    A slice waits only for its own part of a file; :meth:`unpack_rest` makes the others ready.

    Args:
        open: opens one by its name.
        most_bytes: how much is kept.
    """

    def __init__(self, open: Callable[[str], Display], most_bytes: int) -> None:
        self._open = open
        self._most = most_bytes
        self._kept: OrderedDict[str, Display] = OrderedDict()
        self._unpacked: set[str] = set()
        self._bytes = 0
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Event] = {}
        self._places = threading.Semaphore(_AT_ONCE)
        self._turns = threading.Semaphore(1)  # cores are for slices that are waited for

    @property
    def held_bytes(self) -> int:
        """How much is kept now."""
        return self._bytes

    def get(self, name: str) -> Display:
        """An image or a mask; of several who ask for it at the same time, one opens it."""
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
                opened = self._open(name)
            self._keep(name, opened)
            return opened
        finally:
            with self._lock:
                self._reading.pop(name).set()

    def unpack_rest(self, name: str) -> None:
        """Unpack in the background what is kept, so that the next slices are there when asked for."""
        with self._lock:
            opened = self._kept.get(name)
            if opened is None or name in self._unpacked:
                return
            self._unpacked.add(name)
        threading.Thread(target=self._unpack, args=(opened,), daemon=True).start()

    def _unpack(self, opened: Display) -> None:
        # A damaged file is told to whoever asks for a slice of it.
        with self._turns, suppress(SegprefError):
            opened.unpack_rest()

    def _keep(self, name: str, opened: Display) -> None:
        if opened.nbytes > self._most:
            return
        with self._lock:
            self._kept[name] = opened
            self._bytes += opened.nbytes
            while self._bytes > self._most:
                oldest, gone = self._kept.popitem(last=False)
                self._unpacked.discard(oldest)
                self._bytes -= gone.nbytes


def slice_bytes(
    volumes: Sequence[Display], axis: Axis, index: int, dtype: np.dtype
) -> tuple[bytes, tuple[int, ...]]:
    """Slices of several volumes one after the other, row by row, little endian.

    Returns:
        The bytes and the shape of one slice.
    """
    cuts = [one.slice(axis, index) for one in volumes]
    told = dtype.newbyteorder("<")
    parts = [np.ascontiguousarray(one, told).tobytes() for one in cuts]
    return b"".join(parts), cuts[0].shape
