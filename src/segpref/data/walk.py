"""The one way in which readers walk through folders: links are followed, hidden things left alone."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from segpref.disk import refuse_scarcity
from segpref.targets import refuse_special
from segpref.types import SegprefError

__all__ = ["Tree", "entries", "hidden"]

_HIDDEN = frozenset(
    {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "lost+found", "thumbs.db", "desktop.ini"}
)
"""What systems leave in folders under a name that does not begin with a dot, in lower case."""


def hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: ``.git``, ``._a.png``, ``__MACOSX`` and so on."""
    return name.startswith((".", "~$")) or name.lower() in _HIDDEN


def entries(folder: Path) -> list[Path]:
    """What lies directly in the folder and is not hidden, sorted.

    Raises:
        SegprefError: the folder can't be listed, or holds a device, a named pipe or a socket.
    """
    found = [path for path in _listed(folder) if not hidden(path.name)]
    for path in found:
        refuse_special(path)
    return found


@dataclass(frozen=True)
class Tree:
    """All that lies below a folder, in a fixed order.

    Links are followed. A folder that is reached twice, as where a link leads back, is walked once: by
    its own name where it has one below the root, else by the first link to it.

    Args:
        root: the folder; what its own path looks like does not matter.
        files: files, and links that lead nowhere, sorted: what such a link stood for must be missed.
        folders: the root and the folders below it, sorted.
        skipped: what was left alone and why: hidden files and folders, and links to folders that were
            walked already.

    Raises:
        SegprefError: a folder can't be listed, or holds a device, a named pipe or a socket.
    """

    root: Path
    files: tuple[Path, ...] = field(init=False)
    folders: tuple[Path, ...] = field(init=False)
    skipped: dict[Path, str] = field(init=False)

    def __post_init__(self) -> None:
        files: list[Path] = []
        folders: list[Path] = []
        skipped: dict[Path, str] = {}
        # A link to a folder above leads back here, too.
        seen = {str(above) for above in Path(os.path.realpath(self.root)).parents}
        # Links wait until no folder is left that lies here itself: it is better known by its own name.
        own, links = deque([self.root]), deque[Path]()
        while own or links:
            folder = (own or links).popleft()
            real = os.path.realpath(folder)
            if real in seen:
                skipped[folder] = "a link to a folder that is read already, or is above"
                continue
            seen.add(real)
            folders.append(folder)
            for path in _listed(folder):
                if hidden(path.name):
                    skipped[path] = "hidden"
                elif path.is_dir():
                    (links if path.is_symlink() else own).append(path)
                else:
                    refuse_special(path)
                    files.append(path)
        object.__setattr__(self, "files", tuple(sorted(files)))
        object.__setattr__(self, "folders", tuple(sorted(folders)))
        object.__setattr__(self, "skipped", skipped)

    def named(self, pattern: str) -> Iterator[Path]:
        """The files whose names match a pattern such as ``*.xml``, case and all."""
        return (path for path in self.files if path.match(pattern))


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        refuse_scarcity(folder, error)
        raise SegprefError(
            f"{folder} can't be listed ({error.strerror}): ask for the permission to read it"
        ) from error
