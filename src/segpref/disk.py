"""Errors of files: refused by the operating system, or content other than what was written."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segpref.types import SegprefError

__all__ = [
    "GONE",
    "Damaged",
    "cannot_read",
    "cannot_write",
    "checksum",
    "from_checked_json",
    "refuse_scarcity",
    "to_checked_json",
]

GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ESTALE)
"""Errors that say that a file is not there, whatever is in its place; all others leave that open."""

_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
"""Errors that say nothing about a file, but that the machine can't read it now."""

_FIXES = {
    errno.ENOENT: "restore it",
    errno.EMFILE: "raise the limit of open files of this process (ulimit -n)",
    errno.ENFILE: "close other programs, or raise the system's limit of open files",
    errno.ENOMEM: "free some memory",
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some space on that disk, or ask for a larger quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or choose another disk",
}


class Damaged(Exception):
    """A file is not what was written: the reason, without its name."""


def cannot_read(path: Path | str, error: OSError) -> SegprefError:
    """One sentence about a file that is there and can't be read."""
    denied = error.errno in (errno.EACCES, errno.EPERM)
    otherwise = "restore the permission to read it" if denied else "check that disk"
    return SegprefError(
        f"{path} can't be read ({error.strerror or error}): {_FIXES.get(error.errno or 0, otherwise)}"
    )


def refuse_scarcity(path: Path | str, error: BaseException) -> None:
    """Refuse errors of reading that are the machine's fault, not the file's.

    Raises:
        SegprefError: the machine lacks descriptors or memory, or its disk fails.
    """
    if isinstance(error, OSError) and error.errno in _SCARCE:
        raise cannot_read(path, error) from error


def cannot_write(path: Path | str, error: OSError, elsewhere: str) -> SegprefError:
    """One sentence about a file that can't be written.

    Args:
        path: the file.
        error: what the operating system said.
        elsewhere: how to choose another place, where that is the fix.
    """
    denied = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
    otherwise = elsewhere if error.errno in denied else f"check that disk, or {elsewhere}"
    return SegprefError(
        f"{path} can't be written ({error.strerror or error}): "
        f"{_FIXES.get(error.errno or 0, otherwise)}"
    )


def checksum() -> hashlib._Hash:
    """The hash that files are checked with: three times as fast as blake2b where the CPU helps."""
    return hashlib.sha256(usedforsecurity=False)


def to_checked_json(content: Mapping[str, Any]) -> bytes:
    """JSON with a checksum of itself under ``digest``, for :func:`from_checked_json`."""
    plain = json.loads(json.dumps(content))
    return json.dumps({**plain, "digest": _digest(plain)}).encode()


def from_checked_json(data: bytes | str, *, old: bool = False) -> dict[str, Any]:
    """The content of :func:`to_checked_json`.

    Args:
        data: the JSON.
        old: take JSON without a checksum, too, such as that of earlier versions; what is no JSON
            object counts as foreign then, and is empty.

    Raises:
        Damaged: it is something else, or another content than was written.
    """
    try:
        content = dict(json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        if old:
            return {}
        raise Damaged("it is not a JSON file written by segpref") from error
    digest = content.pop("digest", None)
    if digest is None and not old:
        raise Damaged("it holds no checksum, as files of earlier versions do not")
    if digest is not None and digest != _digest(content):
        raise Damaged("its checksum does not match")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    found = checksum()
    found.update(json.dumps(content, sort_keys=True).encode())
    return found.hexdigest()
