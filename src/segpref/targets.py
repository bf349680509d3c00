"""Checks paths: a regular file or a folder, never anything else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from segpref.folder_kinds import kind_of
from segpref.types import SegprefError

__all__ = ["check_outputs", "file_target", "refuse_special"]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


_READ = (stat.S_IFREG, stat.S_IFDIR)


def refuse_special(path: Path) -> None:
    """Refuse to read what may have no end or no beginning; what is not there is for others to say.

    Raises:
        SegprefError: a device, a named pipe or a socket is at the end of all links.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, RuntimeError, ValueError):
        return
    if stat.S_IFMT(mode) not in _READ:
        raise SegprefError(
            f"{path} is {_kind(mode)}, not a file: move it away, or put the file itself there"
        )


def file_target(path: Path) -> Path:
    """The regular file that is written where ``path`` is: itself, or what it is a link to.

    Raises:
        SegprefError: something else is there (a folder, a device, a named pipe, a socket), or a link
            that leads nowhere.
    """
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        raise SegprefError(f"{path} is {_kind(mode)}, not a file: choose another file to write to")
    return path.resolve() if path.is_symlink() else path


def check_outputs(
    files: Iterable[Path | None] = (),
    folders: Iterable[Path | None] = (),
    read: Iterable[object] = (),
) -> None:
    """Refuse places that can't be written to, before anything is computed.

    Args:
        files: files that are made or replaced; None for one that was not asked for.
        folders: folders that are made or written into.
        read: what the same command reads: files and folders (a dataset, a model), which ``files``, as
            the user names them, must not overwrite. What is no path is left alone.

    Raises:
        SegprefError: something else than a file or a folder is there, or in a folder a device, a named
            pipe or a socket; a link that leads nowhere; no permission to write; a file that is read, or
            that is there in a folder that is read, or in that of a run, a study, a model or a dataset.
    """
    sources = [Path(one).expanduser() for one in read if isinstance(one, str | Path) and str(one)]
    for path in folders:
        if path is not None:
            _check_folder(path)
    for path in files:
        if path is not None:
            target = file_target(path)
            if target.exists() and not os.access(target, os.W_OK):
                raise SegprefError(f"{path} is write-protected: choose another file to write to")
            for source in sources:
                _check_kept(path, target, source)
            if sources and target.exists() and kind_of(target.parent) is not None:
                # Such as a run's own table, where another model is measured.
                raise SegprefError(_kept(path, target.parent))
            _check_place(path, target.parent)


def _check_kept(path: Path, target: Path, source: Path) -> None:
    """What is read is not written over: not by another name of it, either."""
    if not target.exists() or not source.exists():
        return
    if target.samefile(source):
        raise SegprefError(
            f"{path} is read, too, and would be overwritten: choose another file to write to"
        )
    if source.is_dir() and source.resolve() in target.resolve().parents:
        raise SegprefError(_kept(path, source))


def _kept(path: Path, folder: Path) -> str:
    return (
        f"{path} is there already, in {folder}, of which it may be a part: remove it, or choose "
        "another file to write to"
    )


def _check_folder(path: Path) -> None:
    mode = _mode(path)
    if mode is None:
        _check_place(path, path.parent)
        return
    if not stat.S_ISDIR(mode):
        raise SegprefError(
            f"{path} is {_kind(mode)}, not a folder: choose another folder to write to"
        )
    _check_place(path, path)
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise SegprefError(
            f"{path} can't be listed ({error.strerror}): choose a folder that you may read"
        ) from error
    for entry in entries:
        try:
            inner = entry.lstat().st_mode
        except FileNotFoundError:  # another process, which works in this folder, has taken it away
            continue
        if not (stat.S_ISREG(inner) or stat.S_ISDIR(inner) or stat.S_ISLNK(inner)):
            raise SegprefError(
                f"{path} holds {entry.name}, which is {_kind(inner)}: remove it, or choose another "
                "folder"
            )


def _check_place(path: Path, folder: Path) -> None:
    """The folder, or the nearest one above it that is there, must take new entries."""
    there = next(
        (one for one in (folder, *folder.absolute().parents) if os.path.lexists(one)), None
    )
    if there is None or not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise SegprefError(
            f"{path} can't be written, because {there} is not a folder that you may write to: "
            f"choose another "
            "place"
        )


def _mode(path: Path) -> int | None:
    """What is at the end of all links; None where nothing is there."""
    try:
        return path.stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, until Python 3.13
        if path.is_symlink():
            raise SegprefError(
                f"{path} is a link that leads nowhere: remove it, or choose another place"
            ) from error
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return None
        reason = getattr(error, "strerror", None) or error
        raise SegprefError(f"{path} can't be written ({reason}): choose another place") from error


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "a file")
