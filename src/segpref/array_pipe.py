"""Questions and answers with large arrays between two processes, in memory that both map.

Through a pipe an array is copied several times, a little at a time, into memory that is new each time.
On Linux only the pickle goes through it. The arrays are written to anonymous memory, which is used
again and again and which nobody has to remove, whoever is killed when. Elsewhere all goes through the
pipe.
"""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from collections.abc import Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

__all__ = ["Answering", "Asking", "Packed", "packed"]

_MOST = 16
"""Areas in use; beyond them answers are copied, so that whoever keeps many uses up no descriptors, of
which an area takes two."""

_ALIGNED = 64
"""Arrays begin at multiples of so many bytes."""

Places = list[tuple[int, int]]


class Packed:
    """A pickle, and the arrays that it leaves out, as bytes.

    Args:
        content: the pickle.
        arrays: uint8, one after the other.
    """

    def __init__(self, content: bytes, arrays: Sequence[np.ndarray]) -> None:
        self.content, self.arrays = content, arrays

    def load(self) -> Any:
        """The object; its arrays can be written to."""
        return pickle.loads(self.content, buffers=self.arrays)


def packed(content: Any) -> Packed:
    """An object that can be pickled, ready to be sent; its arrays are read when it is."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(content, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    return Packed(text, [np.frombuffer(one.raw(), np.uint8) for one in buffers])


class Asking:
    """The end that asks, one question at a time.

    Args:
        pipe: both directions of it are open; :class:`Answering` is at the other end.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._areas: list[_Area] = []
        self._free: list[int] = []

    def ask(self, question: Packed) -> Packed:
        """Hand a question over and wait for its answer, whose arrays may be kept.

        Raises:
            EOFError: the other process has ended.
            OSError: likewise.
        """
        fresh = not self._free
        if fresh and not self._grown():
            _send(self._pipe, (None, question.content, _inside(question), 0))
            content, inside, _ = _received(self._pipe)
            return Packed(content, inside)
        number = len(self._areas) - 1 if fresh else self._free.pop()
        area = self._areas[number]
        places = area.write(question.arrays)
        _send(self._pipe, (number, question.content, places, area.size))
        if fresh:
            reduction.send_handle(self._pipe, area.descriptor, 0)
        content, places, size = _received(self._pipe)
        area.fit(size)
        whole = area.whole()
        # The area is free again once the last array of the answer is gone.
        weakref.finalize(whole, self._free.append, number).atexit = False
        found = [whole[start : start + length] for start, length in places]
        return Packed(content, [one.copy() for one in found] if number >= _MOST else found)

    def _grown(self) -> bool:
        """Whether there is one more area; not where the system has none, or no descriptor left."""
        if not hasattr(os, "memfd_create"):
            return False
        try:
            self._areas.append(_Area(os.memfd_create("segpref")))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the pipe; what was answered stays."""
        self._pipe.close()
        for area in self._areas:
            area.close()
        self._areas.clear()


class Answering:
    """The other end of :class:`Asking`.

    Args:
        pipe: to the process that asks.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._areas: dict[int, _Area] = {}
        self._number: int | None = None

    def next(self) -> Packed:
        """The next question; its arrays are copies, so that nothing which is kept of them changes.

        Raises:
            EOFError: the process that asks has ended.
            OSError: likewise.
        """
        self._number, content, places, size = _received(self._pipe)
        if self._number is None:
            return Packed(content, places)
        if self._number not in self._areas:
            self._areas[self._number] = _Area(reduction.recv_handle(self._pipe))
        area = self._areas[self._number]
        area.fit(size)
        whole = area.whole()
        return Packed(content, [whole[start : start + length].copy() for start, length in places])

    def answer(self, answer: Packed) -> None:
        """Answer the last question."""
        if self._number is None:
            _send(self._pipe, (answer.content, _inside(answer), 0))
            return
        area = self._areas[self._number]
        places = area.write(answer.arrays)
        _send(self._pipe, (answer.content, places, area.size))


class _Area:
    """Memory that both processes map, as large as the largest that lay in it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.size = descriptor, 0
        self._map: mmap.mmap | None = None

    def fit(self, size: int) -> None:
        """Map it as large as it is in the other process."""
        if size > self.size:
            self._map, self.size = mmap.mmap(self.descriptor, size), size

    def write(self, arrays: Sequence[np.ndarray]) -> Places:
        """Lay arrays into it and say where."""
        places, end = [], 0
        for one in arrays:
            places.append((end, one.nbytes))
            end += -(-one.nbytes // _ALIGNED) * _ALIGNED
        if end > self.size:
            os.ftruncate(self.descriptor, end)
            self.fit(end)
        whole = self.whole()
        for (start, length), one in zip(places, arrays, strict=True):
            whole[start : start + length] = one
        return places

    def whole(self) -> np.ndarray:
        """All of it, as an array that lives as long as what is cut out of it."""
        return np.frombuffer(b"" if self._map is None else self._map, np.uint8)

    def close(self) -> None:
        """Give the descriptor up; arrays that are in use stay."""
        os.close(self.descriptor)


def _send(pipe: Connection, content: tuple[Any, ...]) -> None:
    pipe.send_bytes(pickle.dumps(content, pickle.HIGHEST_PROTOCOL))


def _received(pipe: Connection) -> Any:
    return pickle.loads(pipe.recv_bytes())


def _inside(content: Packed) -> list[np.ndarray]:
    # With a copy each, which can be written to where it arrives.
    return [one.copy() for one in content.arrays]
