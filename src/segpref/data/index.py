"""Finding the files of a dataset: what every reader does before it reads a pixel."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from segpref.data.source import Source
from segpref.data.source_list import SourceList
from segpref.data.volumes import has_image_name
from segpref.data.walk import Tree, entries
from segpref.targets import refuse_special
from segpref.trust import read_json
from segpref.types import SegprefError

__all__ = [
    "as_written",
    "dataset_folder",
    "image_files",
    "index",
    "load_description",
    "numbered_names",
    "patient_of",
    "refuse_in_place",
    "required",
    "source_id",
]


def dataset_folder(root: Path | str, what: str) -> Path:
    """The folder of a dataset; an error that says what is missing if it is no folder."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise SegprefError(f"{folder} is not a folder: give the folder that holds {what}")
    return folder


def image_files(folder: Path, recursive: bool = False) -> list[Path]:
    """Image files of a folder but DICOM, sorted, without hidden ones."""
    # A link that leads nowhere counts: the image that it stood for must not vanish in silence.
    return sorted(
        path
        for path in (Tree(folder).files if recursive else entries(folder))
        if has_image_name(path) and not path.is_dir()
    )


def refuse_in_place(out: Path, data: object) -> None:
    """Refuse to write into the folder of a dataset itself, or into one of its images, by whatever link.

    Args:
        out: the folder that is written.
        data: the dataset's folder; something else, such as a reader, is passed over.

    Raises:
        SegprefError: it is the dataset's folder, or lies in it and holds images.
    """
    if not isinstance(data, str | os.PathLike):
        return
    folder = Path(os.path.realpath(Path(os.fspath(data)).expanduser()))
    there = Path(os.path.realpath(out.expanduser()))
    if not folder.is_dir() or not there.is_dir() or not there.is_relative_to(folder):
        return
    if there == folder or image_files(there):
        kind = "the" if there == folder else "an image"
        raise SegprefError(
            f"{out} is {kind} folder of the dataset, which would be mixed with what is written: choose "
            "another --out"
        )


def required(path: Path, wanted_by: str, fix: str = "restore it or drop the entry") -> Path:
    """The path if it is there, in the Unicode normalisation in which it is."""
    path = as_written(path)
    if not path.exists():
        raise SegprefError(f"{path} is missing but {wanted_by}: {fix}")
    refuse_special(path)
    return path


def as_written(path: Path) -> Path:
    """The path of a file whose name is written otherwise in Unicode: macOS takes accents apart."""
    if path.exists() or (path.name.isascii() and str(path).isascii()):
        return path
    place = path if path == path.parent else as_written(path.parent)
    if not place.is_dir():
        return path
    wanted = unicodedata.normalize("NFC", path.name)
    same = (one for one in entries(place) if unicodedata.normalize("NFC", one.name) == wanted)
    return next(same, path)


def source_id(text: str) -> str:
    """The text with everything but letters, digits, ``.``, ``_`` and ``-`` replaced.

    Letters are those of every script. An accent may be a sign of its own in a file name, as macOS
    writes it; here it always is part of its letter.
    """
    return re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text)).strip("_") or "_"


def patient_of(stem: str, pattern: str | None) -> str:
    """Patient of a file's stem: the group of the pattern in it, or all of it without a pattern."""
    if pattern is None:
        return source_id(stem)
    try:
        found = re.search(pattern, stem)
    except re.error as error:
        raise SegprefError(
            f"the patient_pattern {pattern!r} is not a regular expression ({error}): correct it"
        ) from error
    if found is None or not found.groups() or not found.group(1):
        raise SegprefError(
            f"the patient_pattern {pattern!r} finds no patient in {stem!r}: give a pattern with one "
            "group that matches every file, such as '(patient[0-9]+)'"
        )
    return unicodedata.normalize("NFC", found.group(1))


def index(root: Path, sources: Iterable[Source], what: str) -> SourceList:
    """Sources sorted by id; none at all, or two of one id, are errors."""
    found = SourceList(sources)
    if not found:
        raise SegprefError(f"{root} holds no {what}: check the path")
    for number, (first, second) in enumerate(pairwise(map(found.id, range(len(found))))):
        if first == second:
            one, other = found[number : number + 2]
            raise SegprefError(
                f"{one.images[0]} and {other.images[0]} both get the id {first}: rename or "
                "remove one"
            )
    return found


def numbered_names(path: Path, setting: str, names: Any) -> tuple[str, ...]:
    """The names of channels in the order of their numbers, such as ``{"0": "MRI"}``.

    Raises:
        SegprefError: there is none, or they are no names by number.
    """
    try:
        found = tuple(str(names[key]) for key in sorted(names, key=int))
    except (LookupError, TypeError, ValueError) as error:
        raise SegprefError(
            f'{path} has a "{setting}" that does not name channels by number: write it as '
            '{"0": "MRI"}'
        ) from error
    if not found or not isinstance(names, dict):
        raise SegprefError(f'{path} has a "{setting}" without channels: write it as {{"0": "MRI"}}')
    return found


def load_description(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Content of a dataset.json that has the keys."""
    required(path, "describes the dataset", "point to the folder that holds it, or restore it")
    content = read_json(path, "correct or restore it")
    if not isinstance(content, dict):
        raise SegprefError(f"{path} holds no JSON object: correct or restore it")
    missing = [key for key in keys if key not in content]
    if missing:
        raise SegprefError(f"{path} lacks {', '.join(map(repr, missing))}: add what is missing")
    return content
