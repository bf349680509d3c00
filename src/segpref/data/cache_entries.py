"""An entry of the cache: arrays that are written together, and rebuilt when damaged."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segpref.data.array_files import ArrayFile, ArrayNote, StoredArray, write_array
from segpref.disk import (
    GONE,
    Damaged,
    cannot_read,
    cannot_write,
    from_checked_json,
    to_checked_json,
)
from segpref.types import SegprefError

__all__ = ["ELSEWHERE", "PARTIAL", "Entry"]

log = logging.getLogger(__name__)

ELSEWHERE = "set SEGPREF_CACHE or --cache to a folder that you may write to"
PARTIAL = ".partial"

_NOTE = "key.json"
_TRIES = 5
"""Of as many other processes that put the same entry in its place at the same moment."""

Notes = dict[str, ArrayNote]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Args:
        folder: where it lies.
        partial: folder on the same disk in which it is written.
        key: what it is the result of.
        compute: makes its arrays; None in a process that can't, which finds them damaged then.
    """

    folder: Path
    partial: Path
    key: Mapping[str, Any]
    compute: Callable[[], Mapping[str, np.ndarray]] | None

    def arrays(self) -> dict[str, StoredArray]:
        """Its arrays, computed where they are not there."""
        try:
            notes = _look(self.folder)
        except Damaged as error:
            self._warn(self.folder, str(error))
            notes = None
        if notes is None:
            notes = self._anew({})
        return {name: self.array(name, note) for name, note in notes.items()}

    def array(self, name: str, note: ArrayNote, seen: np.ndarray | None = None) -> StoredArray:
        """One of its arrays, of which all is known already.

        Args:
            name: of the array.
            note: what was written.
            seen: see :class:`~segpref.data.array_files.ArrayFile`.
        """
        remedy = None if self.compute is None else partial(self._again, name)
        return StoredArray(ArrayFile(_path(self.folder, name), note, remedy, seen))

    def _again(self, name: str, bad: ArrayNote, reason: str) -> ArrayNote:
        """What to read in place of an array that is not what was written."""
        notes: Notes | None = None
        with contextlib.suppress(Damaged):
            notes = _look(self.folder)
        # Another process may have made it anew.
        if notes is None or notes.get(name) == bad:
            self._warn(_path(self.folder, name), reason)
            notes = self._anew({name: bad})
        if name not in notes:
            raise SegprefError(
                f"{self.folder} has no {name} since it was rebuilt: run the command again"
            )
        return notes[name]

    def _warn(self, path: Path, reason: str) -> None:
        log.warning("%s was damaged (%s) and is rebuilt.", path, reason)

    def _anew(self, bad: Notes) -> Notes:
        assert self.compute is not None
        arrays = self.compute()
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            place = self._workplace()
        except OSError as error:
            raise cannot_write(self.folder, error, ELSEWHERE) from error
        try:
            notes = {
                name: write_array(_path(place, name), np.asarray(array), ELSEWHERE)
                for name, array in arrays.items()
            }
            content = {"key": self.key, "arrays": {n: one.to_json() for n, one in notes.items()}}
            (place / _NOTE).write_bytes(to_checked_json(content))
            return self._put(place, notes, bad)
        except OSError as error:
            raise cannot_write(self.folder, error, ELSEWHERE) from error
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _put(self, place: Path, notes: Notes, bad: Notes) -> Notes:
        """Give the folder its name, and say what is there now under it.

        What another process put there meanwhile stays, unless it is what was found to be bad. That
        goes only now, when there is something to put in its place.
        """
        for _ in range(_TRIES):
            try:
                place.rename(self.folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            else:
                return notes
            with contextlib.suppress(Damaged):
                there = _look(self.folder)
                if there is not None and all(there.get(name) != bad[name] for name in bad):
                    return there
            aside = self._workplace()
            with contextlib.suppress(FileNotFoundError):
                self.folder.rename(aside / "bad")
            shutil.rmtree(aside, ignore_errors=True)
        raise SegprefError(
            f"{self.folder} is replaced by other processes again and again: run the command again"
        )

    def _workplace(self) -> Path:
        self.partial.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=self.partial, prefix=".", suffix=PARTIAL))
        place.chmod(0o755)  # as for files: others who share the store may read
        return place


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _look(folder: Path) -> Notes | None:
    """Notes of an entry's arrays; None where it is not there, or was written by an older version.

    Raises:
        Damaged: it is there, but is not what was written.
        SegprefError: the operating system can't say.
    """
    path = folder / _NOTE
    try:
        content = path.read_bytes()
        if content.startswith(b"{") and b'"digest"' not in content:
            return None
        arrays = from_checked_json(content).get("arrays")
        if not isinstance(arrays, dict):
            raise Damaged(f"{_NOTE} lists no arrays")
        notes = {_name(name): ArrayNote.from_json(note) for name, note in arrays.items()}
        for name, note in notes.items():
            path = _path(folder, name)
            if (size := path.stat().st_size) != note.size:
                raise Damaged(f"{path.name} has {size} bytes where {note.size} were written")
    except OSError as error:
        if error.errno not in GONE:
            raise cannot_read(path, error) from error
        if path.name == _NOTE:
            return None
        raise Damaged(f"{path.name} is gone") from error
    return notes


def _name(name: str) -> str:
    # The file says it, and it becomes part of a path.
    if not name.isidentifier():
        raise Damaged(f"{_NOTE} names an array {name!r}")
    return name
