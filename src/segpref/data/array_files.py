"""Arrays in files, verified by checksum; no file stays open or mapped between two reads.

A handle knows path, type, shape and checksum. It opens its file when something is asked for, checks
the whole file the first time and again where the file has changed since, reads what is asked for and
closes it. So any number of handles needs no descriptor and no map, and a file that is cut short or
changed from outside is an error that names it, never a signal or another result.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from segpref.disk import GONE, Damaged, cannot_read, cannot_write, checksum
from segpref.types import SegprefError

__all__ = ["UNSEEN", "ArrayFile", "ArrayNote", "ArrayWriter", "StoredArray", "write_array"]

UNSEEN = -1
"""A file that was not checked yet."""

_TRIES = 3
"""One, another for a file that was made anew, another where a second process did so at that moment."""


@dataclass(frozen=True, slots=True)
class ArrayNote:
    """What is known of an array's file without opening it.

    Args:
        dtype: of its items.
        shape: of the whole array, in C order.
        offset: bytes before the first item.
        digest: checksum of the whole file.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    digest: str

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.offset + self.dtype.itemsize * math.prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """The note for a JSON file."""
        return {
            "dtype": self.dtype.str,
            "shape": list(self.shape),
            "offset": self.offset,
            "digest": self.digest,
        }

    @classmethod
    def from_json(cls, content: Any) -> ArrayNote:
        """The note back.

        Raises:
            Damaged: it describes no array of numbers.
        """
        try:
            dtype, shape = np.dtype(str(content["dtype"])), tuple(content["shape"])
            offset, digest = content["offset"], content["digest"]
        except (TypeError, KeyError, ValueError) as error:
            raise Damaged("its note describes no array") from error
        whole = all(type(number) is int and number >= 0 for number in (*shape, offset))
        if not whole or dtype.kind not in "biufc" or type(digest) is not str:
            raise Damaged("its note describes no array of numbers")
        return cls(dtype, shape, offset, digest)


Remedy = Callable[[ArrayNote, str], ArrayNote]
"""(what was known, what is wrong) -> what is known now that the file is sound again, or an error."""


class ArrayFile:
    """The file of one array.

    Args:
        path: a ``.npy`` file.
        note: what was written.
        remedy: called where the file is something else; None where nothing can make it anew.
        seen: one number that says which file was checked, :data:`UNSEEN` at first. Who makes handles
            of a file again and again keeps it, so that the file is checked once.
    """

    __slots__ = ("_remedy", "_seen", "note", "path")

    def __init__(
        self,
        path: Path,
        note: ArrayNote,
        remedy: Remedy | None,
        seen: MutableSequence[int] | np.ndarray | None = None,
    ) -> None:
        self.path, self.note, self._remedy = path, note, remedy or _Lost(path)
        self._seen = [UNSEEN] if seen is None else seen

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process checks for itself, and has nothing to make the file anew with.
        return ArrayFile, (self.path, self.note, None)

    def read(self, places: Sequence[int], into: np.ndarray) -> None:
        """Fill the rows of ``into [row, byte]`` with what is at these bytes of the array.

        Raises:
            SegprefError: the file can't be read, or is not what was written and has no remedy.
        """
        for trial in range(_TRIES):
            try:
                with io.FileIO(self.path) as file:
                    self._check(file)
                    for place, row in zip(places, into, strict=True):
                        file.seek(self.note.offset + place)
                        _fill(file, memoryview(row))
                return
            except Damaged as error:
                reason = str(error)
            except OSError as error:
                if error.errno not in GONE:
                    raise cannot_read(self.path, error) from error
                reason = f"it is gone: {error.strerror}"
            if trial + 1 < _TRIES:
                found = self._remedy(self.note, reason)
                if (found.dtype, found.shape) != (self.note.dtype, self.note.shape):
                    raise SegprefError(
                        f"{self.path} was {self.note.shape} and is {found.shape} since it was "
                        f"rebuilt: run the command again"
                    )
                self.note = found
        raise SegprefError(
            f"{self.path} is not what was written there a moment ago ({reason}): check that disk"
        )

    def _check(self, file: io.FileIO) -> None:
        """Compare the file with its note where that was not done, or it has changed since."""
        status = os.fstat(file.fileno())
        # Python's hash of numbers is the same whenever it is asked for, and never UNSEEN.
        now = hash((status.st_ino, status.st_size, status.st_mtime_ns))
        if now == self._seen[0]:
            return
        if status.st_size != self.note.size:
            raise Damaged(f"it has {status.st_size} bytes where {self.note.size} were written")
        if hashlib.file_digest(file, checksum).hexdigest() != self.note.digest:
            raise Damaged("its checksum does not match")
        self._seen[0] = now


class StoredArray:
    """An array on disk, or an item of one; what is asked for is read into memory.

    It has shape and type without being read. ``stored[key]`` reads no more than the blocks that it
    needs and gives an array of its own; ``np.asarray(stored)`` reads all of it.

    Args:
        file: where it lies.
        shape: of this part; all of the file where None.
        first: number of its first item in the file.
    """

    __slots__ = ("_file", "_first", "shape")

    def __init__(
        self, file: ArrayFile, shape: tuple[int, ...] | None = None, first: int = 0
    ) -> None:
        self._file, self._first = file, first
        self.shape = file.note.shape if shape is None else shape

    @property
    def note(self) -> ArrayNote:
        """What is known of its file."""
        return self._file.note

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its items."""
        return self._file.note.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on disk can't be given without a copy")
        found = np.empty(self.shape, self.dtype)
        self._read([0], found, found.size)
        return np.asarray(found, dtype)

    def at(self, index: int) -> StoredArray:
        """One item of the first axis, not read."""
        number = range(len(self))[index]
        rest = self.shape[1:]
        return StoredArray(self._file, rest, self._first + number * math.prod(rest))

    def __getitem__(self, key: Any) -> np.ndarray:
        """A part of it, by numbers and slices, or by a list of numbers of the first axis."""
        if isinstance(key, int | np.integer):
            return np.asarray(self.at(int(key)))
        if isinstance(key, list | np.ndarray):
            rows = np.arange(len(self))[np.asarray(key, None if len(key) else np.int64)]
            return self._rows(rows.tolist())
        parts = key if isinstance(key, tuple) else (key,)
        for place in [axis for axis, part in enumerate(parts) if part is ...][:1]:
            rest = [slice(None)] * (self.ndim - len(parts) + 1)
            parts = (*parts[:place], *rest, *parts[place + 1 :])
        if len(parts) > self.ndim or not all(
            isinstance(part, slice | int | np.integer) for part in parts
        ):
            raise IndexError(f"an array on disk of shape {self.shape} can't be read at {key!r}")
        return self._block([*parts, *[slice(None)] * (self.ndim - len(parts))])

    def _rows(self, rows: Sequence[int]) -> np.ndarray:
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        size = math.prod(self.shape[1:])
        self._read([row * size for row in rows], found, size)
        return found

    def _block(self, parts: Sequence[Any]) -> np.ndarray:
        """What these numbers and slices name: of the leading axes only what is wanted is read.

        From the axis on that is split last (or the one before, for a read per row costs more than
        what lies beside the row) an index of the axes before it is one read.
        """
        wanted = [_wanted(part, length) for part, length in zip(parts, self.shape, strict=True)]
        partial = [
            axis for axis, (low, high, _) in enumerate(wanted) if high - low < self.shape[axis]
        ]
        split = max(0, min(max(partial, default=0), self.ndim - 2))
        lows, shape = [0] * self.ndim, list(self.shape)
        inner: list[Any] = list(parts)
        for axis, (low, high, within) in enumerate(wanted[: split + 1]):
            lows[axis], shape[axis], inner[axis] = low, high - low, within
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(self.ndim)]
        ahead = [
            range(low * stride, (low + count) * stride, stride)
            for low, count, stride in zip(lows, shape, strides[:split], strict=False)
            if stride
        ]
        start = lows[split] * strides[split] if self.ndim else 0
        found = np.empty(shape, self.dtype)
        if found.size:
            places = [sum(place) + start for place in product(*ahead)]
            self._read(places, found, found.size // len(places))
        part: np.ndarray = found[tuple(inner)]
        return part

    def _read(self, places: Sequence[int], found: np.ndarray, count: int) -> None:
        """Fill an array, ``count`` items at each of these places."""
        if found.size:
            size = self.dtype.itemsize
            rows = found.reshape(-1).view(np.uint8).reshape(len(places), count * size)
            self._file.read([(self._first + place) * size for place in places], rows)


class ArrayWriter:
    """Writes an array into a new file, one part after the other, by ordinary writes.

    Args:
        path: the file; what is there is overwritten.
        dtype: of the items.
        shape: of the whole array.
        elsewhere: how to choose another place for it, should it not be writable.

    Raises:
        SegprefError: it can't be written; the disk is full, say.
    """

    def __init__(
        self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], elsewhere: str
    ) -> None:
        if dtype.kind not in "biufc":
            raise ValueError(f"an array of {dtype} would have to be pickled: give one of numbers")
        header = io.BytesIO()
        described: dict[str, Any] = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(header, described)
        self._note = ArrayNote(dtype, shape, header.tell(), "")
        self._digest, self._written = checksum(), 0
        self._path, self._elsewhere = path, elsewhere
        with self._reporting():
            self._file = path.open("wb")
        self._put(header.getvalue())

    def append(self, part: np.ndarray) -> None:
        """Write what comes next, of any shape."""
        plain = np.ascontiguousarray(part, self._note.dtype)
        self._put(plain.reshape(-1).view(np.uint8).data)

    def close(self) -> ArrayNote:
        """Finish the file, and say what is in it."""
        with self._reporting():
            self._file.close()
        if self._written != self._note.size:
            raise ValueError(
                f"{self._written} bytes were written where {self._note.size} are expected"
            )
        note = self._note
        return ArrayNote(note.dtype, note.shape, note.offset, self._digest.hexdigest())

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # the first one was reported
            self._file.close()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._path, error, self._elsewhere) from error

    def _put(self, data: bytes | memoryview) -> None:
        with self._reporting():
            self._file.write(data)
        self._digest.update(data)
        self._written += len(data)


def write_array(path: Path, array: np.ndarray, elsewhere: str) -> ArrayNote:
    """Write a whole array into a new file; see :class:`ArrayWriter`."""
    with ArrayWriter(path, array.dtype, array.shape, elsewhere) as writer:
        writer.append(array)
        return writer.close()


@dataclass(frozen=True, slots=True)
class _Lost:
    """The remedy of a handle that came from another process: none."""

    path: Path

    def __call__(self, note: ArrayNote, reason: str) -> ArrayNote:
        raise SegprefError(
            f"{self.path} is not what was written ({reason}): run the command again, which rebuilds it"
        )


def _fill(file: io.FileIO, row: memoryview) -> None:
    done = 0
    while done < len(row):
        count = file.readinto(row[done:])  # of more than 2 GB it gives a part
        if not count:
            raise Damaged("it was cut short while it was read")
        done += count


def _wanted(part: Any, length: int) -> tuple[int, int, Any]:
    """First and last wanted place of an axis, and how to pick from what is between them."""
    if not isinstance(part, slice):
        number = range(length)[part]
        return number, number + 1, 0
    places = range(length)[part]
    if not places:
        return 0, 0, slice(None)
    return min(places), max(places) + 1, slice(None, None, places.step)
