"""Checks names that come from files before they become file names or paths."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path, PureWindowsPath

from segpref.types import SegprefError

__all__ = ["check_folder_name", "check_id", "check_patient", "inside"]

_ID = re.compile(r"[\w.-]+")
_LONGEST = 220
"""Bytes of a name: file systems take 255, of which endings and the names of drafts need some."""


def check_id(name: object, place: object) -> None:
    """Refuse an id that can't be the name of a file in any folder.

    Args:
        name: letters and digits of any script, ``.``, ``_`` and ``-``; neither ``.`` nor ``..``; at
            most 220 bytes.
        place: what it is the id of, as messages name it.

    Raises:
        SegprefError: it is anything else.
    """
    if not isinstance(name, str) or not _ID.fullmatch(name) or name in (".", ".."):
        raise SegprefError(
            f"{place} has the id {_shown(name)}, which can't be a file name: use only letters, digits, "
            "'.', '_' and '-'"
        )
    _check_length(name, place, "id")


def check_patient(name: object, place: object) -> None:
    """Refuse a patient that is no text, empty, or has characters that can't be printed.

    Raises:
        SegprefError: it is.
    """
    if not isinstance(name, str) or not _in_one_line(name):
        raise SegprefError(
            f"{place} has the patient {_shown(name)}: name patients by text without line breaks and "
            "control characters"
        )
    _check_length(name, place, "patient")


def check_folder_name(name: object, place: object) -> None:
    """Refuse a name that leads out of the folder in which it is to name a folder.

    Spaces and signs are allowed, unlike in an id.

    Raises:
        SegprefError: it is empty, ``.`` or ``..``, or has a slash, a backslash or characters that can't
            be printed.
    """
    plain = isinstance(name, str) and name.strip(" .") and _in_one_line(name)
    if not isinstance(name, str) or not plain or "/" in name or "\\" in name:
        raise SegprefError(
            f"{place} has the name {_shown(name)}, which can't be a folder's: use a name without "
            "slashes, backslashes and control characters"
        )
    _check_length(name, place, "name")


def inside(folder: Path, entry: object, index: Path) -> Path:
    """The path of a file that an index lists, which must lie in the folder of the index.

    Symbolic links in the folder are the user's own arrangement and lead wherever they lead.

    Args:
        folder: of the dataset.
        entry: what the index says, relative to the folder.
        index: the file that says so, for messages.

    Raises:
        SegprefError: the entry is no text, absolute, or leads out of the folder.
    """
    if not isinstance(entry, str) or not entry or "\0" in entry:
        raise SegprefError(
            f"{index} has the entry {_shown(entry)} where the path of a file is expected: correct it"
        )
    path = os.path.normpath(entry)
    windows = PureWindowsPath(entry)
    absolute = Path(entry).is_absolute() or windows.drive or windows.root
    if absolute or ".." in Path(path).parts or ".." in windows.parts[:1]:
        raise SegprefError(
            f"{index} lists {_shown(entry)}, which is not in {folder}: copy or link the file into that "
            "folder and list it by its path from there"
        )
    return folder / path


def _in_one_line(name: str) -> bool:
    """Whether it is some text without control characters, broken characters and line breaks."""
    blank = {one for one in name if unicodedata.category(one) == "Zs"}
    return bool(name.strip()) and all(one in blank or one.isprintable() for one in name)


def _check_length(name: str, place: object, what: str) -> None:
    if len(name.encode(errors="replace")) > _LONGEST:
        raise SegprefError(
            f"{place} has the {what} {_shown(name)} of {len(name)} characters: shorten it to at most "
            f"{_LONGEST} bytes"
        )


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 80 else f"{text[:76]}..."
