"""Objects with large arrays between processes: the arrays lie in memory that both map.

Through a pipe every byte is copied four times, a few thousand at a time. On Linux only the pickle goes
through it, and a descriptor of anonymous memory, which nobody has to remove, whoever is killed when.
Elsewhere, and where there is little, all goes through the pipe.
"""

from __future__ import annotations

import mmap
import os
import pickle
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

__all__ = ["Packed", "packed", "receive"]

_SMALL = 1 << 16
"""So many bytes of arrays go through the pipe as fast."""

_ALIGNED = 64
"""Arrays begin at multiples of so many bytes."""


class Packed:
    """A pickle, and the arrays that it leaves out, as they are in the object."""

    def __init__(self, content: bytes, arrays: list[np.ndarray]) -> None:
        self._content, self._arrays = content, arrays
        self._size = sum(_room(one.nbytes) for one in arrays)

    def load(self) -> Any:
        """The object; its arrays are views that can be written to."""
        return pickle.loads(self._content, buffers=self._arrays)

    def send(self, pipe: Connection) -> None:
        """Hand it to the process at the other end, which calls :func:`receive`.

        Raises:
            OSError: that process has ended.
        """
        if self._size < _SMALL or not hasattr(os, "memfd_create"):
            inside = [one.tobytes() for one in self._arrays]
            pipe.send_bytes(pickle.dumps((self._content, inside, None), pickle.HIGHEST_PROTOCOL))
            return
        memory = os.memfd_create("segpref")
        try:
            os.ftruncate(memory, self._size)
            whole, end, places = np.frombuffer(mmap.mmap(memory, self._size), np.uint8), 0, []
            for one in self._arrays:
                whole[end : end + one.nbytes] = one
                places.append((end, one.nbytes))
                end += _room(one.nbytes)
            pipe.send_bytes(
                pickle.dumps((self._content, places, self._size), pickle.HIGHEST_PROTOCOL)
            )
            reduction.send_handle(pipe, memory, 0)
        finally:
            os.close(memory)


def packed(content: Any) -> Packed:
    """An object that can be pickled, ready to be sent; its arrays are read when it is."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(content, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    return Packed(text, [np.frombuffer(one.raw(), np.uint8) for one in buffers])


def receive(pipe: Connection) -> Packed:
    """What the other end sent; the memory of its arrays is free when all of them are gone.

    Raises:
        EOFError: the process at the other end has ended.
    """
    content, places, size = pickle.loads(pipe.recv_bytes())
    if size is None:
        return Packed(content, [np.frombuffer(bytearray(one), np.uint8) for one in places])
    memory = reduction.recv_handle(pipe)
    try:
        whole = np.frombuffer(mmap.mmap(memory, size), np.uint8)
    finally:
        os.close(memory)
    return Packed(content, [whole[start : start + length] for start, length in places])


def _room(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
