"""Locks: one process at a time works in an output folder.

The lock is the kernel's and not the existence of a file: a process that was killed, however, blocks
nobody. The file ``.lock`` names the process that holds it and goes when that process is done.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from segpref.process import is_first_process
from segpref.targets import check_outputs
from segpref.types import SegprefError

__all__ = ["alone_in", "alone_in_out"]

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_NAME = ".lock"
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_mine = threading.local()
"""Per thread: the process and the folders that it holds, so that a folder can be taken again within."""


@contextmanager
def alone_in(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from working in a folder, which is made where it is missing.

    Of several processes of one launch (``torchrun``, ``accelerate launch``) the first holds the lock
    for all. A thread that holds a folder may take it again. Where the file system has no locks, a
    warning is logged and work continues. So it is where the last holder was on another machine and was
    killed, as it seems: not every network file system carries locks from one machine to another.

    Args:
        folder: the folder.
        patience_s: how long to wait for a process that is on its way out.

    Raises:
        SegprefError: another process works there, or nothing can be written there.
    """
    place = folder.expanduser().absolute()
    key = (os.getpid(), place.resolve())
    held: set[tuple[int, Path]] = _mine.__dict__.setdefault("held", set())
    if not is_first_process() or key in held:
        yield
        return
    with contextlib.ExitStack() as stack:
        made = _make(place, folder)
        stack.callback(_remove_empty, made)
        if (lock := _locked(place, folder, patience_s)) is not None:
            stack.callback(lock.release)
            # Before it is released: who waits for it sees that its file is gone, and makes another.
            stack.callback(_unlink, place / _NAME)
            _sign(place / _NAME, folder)
        held.add(key)
        stack.callback(held.discard, key)
        yield


def alone_in_out(command: Callable[P, T]) -> Callable[P, T]:
    """A workflow that is alone in its folder ``out`` from beginning to end; see :func:`alone_in`."""
    signature = inspect.signature(command)

    @functools.wraps(command)
    def alone(*args: P.args, **options: P.kwargs) -> T:
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        out = Path(bound.arguments["out"])
        check_outputs(folders=[out])
        with alone_in(out):
            return command(*args, **options)

    return alone


def _locked(place: Path, folder: Path, patience_s: float) -> FileLock | None:
    """The lock, acquired; None where the file system has none."""
    # A lock by the existence of a file, to which filelock would fall back, outlives who was killed.
    lock = FileLock(place / _NAME, fallback_to_soft=False)
    try:
        while True:
            with contextlib.suppress(FileNotFoundError):
                lock.acquire(timeout=patience_s)
                break
            _make(place, folder)  # who was there before has removed it, as it was empty
    except Timeout as error:
        raise SegprefError(
            f"another process is running in {folder}{_holder(place / _NAME)}: wait until it is done, "
            "stop it, or choose another folder"
        ) from error
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise _not_writable(folder, error) from error
        log.warning(
            "%s is on a file system without locks (%s): make sure that no other process is "
            "running there",
            folder,
            error.strerror,
        )
        return None
    return lock


def _sign(file: Path, folder: Path) -> None:
    """Write down who holds the lock; warn if another process still seems to hold it."""
    before = _read(file)
    if before is not None and before[1] != socket.gethostname():
        log.warning(
            "process %d on %s was running in %s and did not finish properly: if it still runs, "
            "stop one of the two",
            *before,
            folder,
        )
    with contextlib.suppress(OSError):
        file.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))


def _read(file: Path) -> tuple[int, str] | None:
    """Process and host that a lock was signed with."""
    try:
        note = json.loads(file.read_text())
        return int(note["process"]), str(note["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holder(file: Path) -> str:
    found = _read(file)
    # Between taking a lock and signing it, the file names the one before, who was killed.
    if found is None or (found[1] == socket.gethostname() and not _alive(found[0])):
        return ""
    return f" (process {found[0]} on {found[1]})"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _make(place: Path, folder: Path) -> list[Path]:
    """Make a folder; those that were missing, the innermost first."""
    missing = [one for one in (place, *place.parents) if not one.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    return missing


def _remove_empty(made: list[Path]) -> None:
    """Leave no trace of a command that was refused before it wrote anything."""
    with contextlib.suppress(OSError):
        for folder in made:
            folder.rmdir()


def _unlink(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def _not_writable(folder: Path, error: OSError) -> SegprefError:
    return SegprefError(
        f"{folder} can't be written ({error.strerror}): choose a folder that you may write to"
    )
