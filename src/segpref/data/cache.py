"""One content-addressed store on disk for everything that is computed once and read often.

An entry is named by the hash of its key (case, preprocessing, checkpoint, operation), holds named
arrays as ``.npy`` files and is memory-mapped when it is read. Entries appear whole or not at all, so
a killed process leaves nothing half-written, and several processes may share one store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from segpref.types import SegprefError

__all__ = ["Cache", "default_cache_root", "file_digest", "key_digest", "write_atomically"]

Arrays: TypeAlias = dict[str, np.ndarray]


def default_cache_root() -> Path:
    """``$SEGPREF_CACHE``, else ``segpref`` in the user's cache folder."""
    if root := os.environ.get("SEGPREF_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "segpref"


def key_digest(key: Mapping[str, Any]) -> str:
    """Hash of a key; equal keys give equal hashes whatever the order of their items."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old or the new one whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise SegprefError(
            f"{path} can't be written ({error.strerror}): choose a folder that you may write to"
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise SegprefError(
                f"{path} can't be written ({error.strerror}): free some space on that disk"
            ) from error
        raise


class Cache:
    """The store.

    Args:
        root: its folder; made when the first entry is written.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root is not None else default_cache_root()

    def entry(
        self, key: Mapping[str, Any], compute: Callable[[], Mapping[str, np.ndarray]]
    ) -> Arrays:
        """Arrays under ``key``, computed if they are not there yet, memory-mapped and read-only."""
        folder = self._folder(key)
        found = _load(folder)
        if found is not None:
            return found
        # A folder that exists but can't be read whole was damaged from outside: make it anew.
        shutil.rmtree(folder, ignore_errors=True)
        self._write(folder, key, compute())
        found = _load(folder)
        if found is None:
            raise SegprefError(f"{folder} can't be read back after writing: check that disk")
        return found

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether there is an entry under ``key``."""
        return (self._folder(key) / "key.json").exists()

    def _folder(self, key: Mapping[str, Any]) -> Path:
        digest = key_digest(key)
        return self.root / digest[:2] / digest[2:]

    def _write(
        self, folder: Path, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
        except OSError as error:
            raise SegprefError(
                f"the cache {self.root} can't be written ({error.strerror}): set SEGPREF_CACHE or "
                "--cache to a folder that you may write to"
            ) from error
        try:
            for name, array in arrays.items():
                np.save(partial / f"{name}.npy", array, allow_pickle=False)
            note = {"key": key, "arrays": sorted(arrays)}
            (partial / "key.json").write_text(json.dumps(note, indent=1, sort_keys=True))
            # Another process may have been faster: its entry is as good as ours.
            with contextlib.suppress(OSError):
                partial.rename(folder)
        except OSError as error:
            raise SegprefError(
                f"the cache {self.root} can't be written ({error.strerror}): free some space there, "
                "or set SEGPREF_CACHE or --cache to another disk"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def digest_of_files(self, paths: Sequence[Path]) -> str:
        """Hash of the content of files; remembered per path, size and time of change."""
        whole = hashlib.blake2b(digest_size=16)
        for path in paths:
            files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
            for file in files:
                whole.update(self._digest_of_file(file).encode())
        return whole.hexdigest()

    def _digest_of_file(self, path: Path) -> str:
        status = path.stat()
        seen = [str(path.resolve()), status.st_size, status.st_mtime_ns]
        note = self.root / "files" / key_digest({"path": seen[0]})
        with contextlib.suppress(OSError, ValueError):
            remembered = json.loads(note.read_text())
            if remembered["seen"] == seen:
                return str(remembered["digest"])
        digest = file_digest(path)
        try:
            write_atomically(note, json.dumps({"seen": seen, "digest": digest}).encode())
        except SegprefError as error:
            raise SegprefError(
                f"the cache {self.root} can't be written: set SEGPREF_CACHE or --cache to a "
                "folder that you may write to"
            ) from error
        return digest


def file_digest(path: Path) -> str:
    """Hash of the content of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _load(folder: Path) -> Arrays | None:
    try:
        names = json.loads((folder / "key.json").read_text())["arrays"]
        return {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in names
        }
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
