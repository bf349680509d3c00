"""A content-addressed store on disk for everything that is computed once and read often.

An entry is named by the hash of its key (case, preprocessing, checkpoint, operation) and holds named
arrays as ``.npy`` files, with the checksum of each in ``key.json``. Entries are written atomically,
so a killed process leaves nothing half-written, and several processes may share one store. What is
half-written lies under names that end in ``.partial``, and is removed when it is a day old.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from segpref.checking import checked
from segpref.data.array_files import StoredArray
from segpref.data.cache_entries import ELSEWHERE, PARTIAL, Entry
from segpref.data.itk_files import data_files
from segpref.disk import Damaged, cannot_write, from_checked_json, refuse_scarcity, to_checked_json
from segpref.targets import file_target, refuse_special
from segpref.types import SegprefError

__all__ = [
    "Cache",
    "default_cache_root",
    "file_digest",
    "key_digest",
    "list_digest",
    "sweep_partial",
    "write_atomically",
]

_ROWS = 1024
"""Rows that are hashed together."""

_STALE_S = 24 * 3600.0
"""No write takes as long, even if clocks of machines that share the folder differ."""


def default_cache_root() -> Path:
    """``$SEGPREF_CACHE``, else ``segpref`` in the user's cache folder."""
    if root := os.environ.get("SEGPREF_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "segpref"


def key_digest(key: Mapping[str, Any]) -> str:
    """Hash of a key; equal keys give equal hashes whatever the order of their items."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def list_digest(name: str, rows: Iterable[Any]) -> str:
    """``key_digest({name: list(rows)})``, without a text of all rows at once."""
    hashed = hashlib.blake2b(f"{{{json.dumps(name)}:[".encode(), digest_size=16)
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
    separator, rest = "", iter(rows)
    while part := list(islice(rest, _ROWS)):
        hashed.update(f"{separator}{encode(part)[1:-1]}".encode())
        separator = ","
    hashed.update(b"]}")
    return hashed.hexdigest()


def write_atomically(path: Path, data: bytes, partial: Path | None = None) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old or the new one whole.

    A link to a regular file stays, and the file that it leads to is written.

    Args:
        path: the file; its folder is made where it is missing.
        data: its content.
        partial: folder on the same disk in which it is written; its own if left out.

    Raises:
        SegprefError: it can't be written, or something else than a regular file is there.
    """
    target = file_target(path)
    place = partial or target.parent
    try:
        for folder in (target.parent, place):
            folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place, prefix=f".{path.name}.", suffix=PARTIAL)
    except OSError as error:
        raise cannot_write(path, error, "choose a folder that you may write to") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error, "choose another disk") from error
        raise


def sweep_partial(folder: Path) -> None:
    """Remove what killed processes left half-written in the folder: a day old or older.

    What is younger may be another process's that is writing it now. Folders below are not looked
    through; a folder that is not there, or in which nothing may be removed, is left as it is.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.name.startswith(".") and entry.name.endswith(PARTIAL)):
                continue
            # Another process may be sweeping too.
            with contextlib.suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime < _STALE_S:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink()


@checked()
class Cache:
    """The store.

    Args:
        root: its folder; made when the first entry is written.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root is not None else default_cache_root()
        # All in one place, so that sweeping lists one small folder and not the whole store.
        self._partial = self.root / "partial"
        sweep_partial(self._partial)

    def entry(
        self, key: Mapping[str, Any], compute: Callable[[], Mapping[str, np.ndarray]]
    ) -> dict[str, StoredArray]:
        """Arrays under ``key``, computed if they are not there yet, and read when they are asked for.

        An array that turns out to be damaged when it is first read is computed anew, with a warning.

        Args:
            key: what the arrays depend on.
            compute: makes them; is called now, or when one of them is found to be damaged.

        Raises:
            SegprefError: the store can't be read or written.
        """
        return self.place(key, compute).arrays()

    def place(
        self, key: Mapping[str, Any], compute: Callable[[], Mapping[str, np.ndarray]] | None
    ) -> Entry:
        """The entry under ``key``, whether it is there or not; nothing is read or computed."""
        return Entry(self._folder(key), self._partial, key, compute)

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether there is an entry under ``key``."""
        return os.path.exists(self._folder(key) / "key.json")  # noqa: PTH110  False, not an error

    def _folder(self, key: Mapping[str, Any]) -> Path:
        digest = key_digest(key)
        return self.root / digest[:2] / digest[2:]

    def digest_of_files(self, paths: Sequence[Path]) -> str:
        """Hash of the content of files; remembered per path, size and time of change.

        Of a header whose voxels lie in files beside it, these count, too.
        """
        whole = hashlib.blake2b(digest_size=16)
        for path in paths:
            try:
                files = (
                    sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
                )
            except OSError as error:
                raise _unreadable(path, error) from error
            for file in (*files, *data_files(path)):
                whole.update(self._digest_of_file(file).encode())
        return whole.hexdigest()

    def _digest_of_file(self, path: Path) -> str:
        try:
            status = path.stat()
            seen = [str(path.resolve()), status.st_size, status.st_mtime_ns]
        except (
            OSError,
            RuntimeError,
        ) as error:  # RuntimeError: links in a circle, until Python 3.13
            raise _unreadable(path, error) from error
        refuse_special(path)
        note = self.root / "files" / key_digest({"path": seen[0]})
        with contextlib.suppress(OSError, Damaged):
            remembered = from_checked_json(note.read_bytes())
            if remembered["seen"] == seen:
                return str(remembered["content"])
        try:
            digest = file_digest(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            write_atomically(
                note, to_checked_json({"seen": seen, "content": digest}), self._partial
            )
        except SegprefError as error:
            raise SegprefError(
                f"the cache {self.root} can't be used: {error}; or {ELSEWHERE}"
            ) from error
        return digest


def file_digest(path: Path) -> str:
    """Hash of the content of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _unreadable(path: Path, error: OSError | RuntimeError) -> SegprefError:
    refuse_scarcity(path, error)
    reason = getattr(error, "strerror", None) or "links in a circle"
    return SegprefError(
        f"{path} can't be read ({reason}): restore it, or its permission to be read"
    )
