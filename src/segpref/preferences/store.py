"""An append-only store of preferences: a file with one JSON record per line.

What :meth:`PreferenceFile.append` has returned from is on the disk. A line that a killed process left
half-written was never acknowledged: readers leave it out, and the next writer sets it aside.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Protocol, runtime_checkable

from filelock import FileLock, Timeout

from segpref.checking import checked
from segpref.disk import GONE, cannot_read, cannot_write
from segpref.preferences.filters import EVERYTHING, Where
from segpref.preferences.record import Preference
from segpref.targets import file_target
from segpref.trust import parse_json
from segpref.types import SegprefError

__all__ = ["PreferenceFile", "PreferenceStore"]

log = logging.getLogger(__name__)

_ELSEWHERE = "choose another file"
_FIX = "correct that line, or remove it"
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_BLOCK = 1 << 16


@runtime_checkable
class PreferenceStore(Protocol):
    """Keeps preferences in the order in which they were given."""

    def append(self, records: Iterable[Preference], /) -> None:
        """Add records; when this returns, they are not lost whatever happens to the program."""
        ...

    def read(self, where: Where = EVERYTHING, /) -> Iterator[Preference]:
        """The records that are asked for, in the order in which they were added."""
        ...


@checked(patience_s={"least": 0})
class PreferenceFile:
    """A store in one JSON Lines file; several processes may read and write it.

    Args:
        path: the file; made when the first record is added, and empty until then.
        patience_s: how long to wait for another writer (seconds).
    """

    def __init__(self, path: Path | str, patience_s: float = 30.0) -> None:
        self.path = Path(path)
        self._patience_s = patience_s

    def append(self, records: Iterable[Preference], /) -> None:
        """Add records and wait until they are on the disk.

        Raises:
            SegprefError: they can't be written; nothing was added then.
        """
        data = b"".join(_line(record) for record in records)
        if not data:
            return
        target = file_target(self.path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._alone(target), _opened(target) as file:
                self._recover(file)
                _write(file, data)
        except OSError as error:
            raise cannot_write(self.path, error, _ELSEWHERE) from error

    def read(self, where: Where = EVERYTHING, /) -> Iterator[Preference]:
        """The records that are asked for; none where there is no file yet.

        A half-written last line is left out with a warning.

        Raises:
            SegprefError: the file can't be read, or a line of it is no preference.
        """
        try:
            with file_target(self.path).open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    whole = line.endswith(b"\n")
                    record = self._parsed(number, line) if whole else _last(line)
                    if record is None:
                        log.warning(
                            "the last line of %s is incomplete and is left out: its writer was "
                            "stopped before the record was acknowledged, or is still writing it",
                            self.path,
                        )
                    elif where(record):
                        yield record
        except OSError as error:
            if error.errno not in GONE:
                raise cannot_read(self.path, error) from error

    def _parsed(self, number: int, line: bytes) -> Preference:
        place = f"{self.path}, line {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise SegprefError(f"{place} is not UTF-8 text ({error.reason}): {_FIX}") from error
        return Preference.from_json(parse_json(text, place, _FIX), place)

    def _recover(self, file: FileIO) -> None:
        """Leave a file whose last line is complete."""
        end, tail = _tail(file)
        if not tail:
            return
        if _last(tail) is not None:
            file.write(b"\n")
            return
        aside = self.path.with_name(f"{self.path.name}.half-written")
        log.warning(
            "the last line of %s was incomplete and is now in %s: its writer was stopped before "
            "the record was acknowledged",
            self.path,
            aside.name,
        )
        with aside.open("ab") as kept:
            kept.write(tail + b"\n")
        file.truncate(end)

    @contextmanager
    def _alone(self, target: Path) -> Iterator[None]:
        """One writer at a time, by a lock of the kernel that ends with its process."""
        place = target.with_name(f".{target.name}.lock")
        lock = FileLock(place, fallback_to_soft=False)
        try:
            lock.acquire(timeout=self._patience_s)
        except Timeout as error:
            raise SegprefError(
                f"another process has been writing {self.path} for {self._patience_s:g} s: wait until "
                "it is done, or stop it"
            ) from error
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            log.warning(
                "%s is on a file system without locks: make sure that no other process writes it",
                self.path,
            )
        try:
            yield
        finally:
            # Who waits for it sees that its file is gone, and makes another.
            if lock.is_locked:
                place.unlink(missing_ok=True)
            lock.release()


def _line(record: Preference) -> bytes:
    return json.dumps(record.to_json(), allow_nan=False).encode() + b"\n"


def _last(line: bytes) -> Preference | None:
    """The record of a line without an end, if it is whole: a person may have edited the file."""
    try:
        return Preference.from_json(parse_json(line.decode(), "the last line"))
    except (SegprefError, UnicodeDecodeError):
        return None


@contextmanager
def _opened(target: Path) -> Iterator[FileIO]:
    new = not target.exists()
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    with FileIO(descriptor, "r+") as file:
        yield file
    if new:
        _sync_folder(target.parent)


def _write(file: FileIO, data: bytes) -> None:
    """Everything, or nothing and an error."""
    before = file.seek(0, os.SEEK_END)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            file.truncate(before)
        raise


def _tail(file: FileIO) -> tuple[int, bytes]:
    """Where the last complete line ends, and what comes after it."""
    end = file.seek(0, os.SEEK_END)
    tail = b""
    while end and b"\n" not in tail:
        start = max(0, end - _BLOCK)
        file.seek(start)
        tail = file.read(end - start) + tail
        end = start
    kept = tail.rfind(b"\n") + 1
    return end + kept, tail[kept:]


def _sync_folder(folder: Path) -> None:
    """The name of a new file is on the disk, too, where the system lets a folder be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
