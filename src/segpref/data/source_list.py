"""Many sources in little memory: one row of text each, made into a :class:`Source` when asked for."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from segpref.data.dicom_series import Series
from segpref.data.source import Source

__all__ = ["SourceList"]


class SourceList(Sequence[Source]):
    """Sources sorted by id; of equal ids the first stays the first.

    A source is some 600 bytes of objects, a row about 60: folders are held once. Every access makes
    an equal one anew.

    Args:
        sources: read once, in any order.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._folders: list[Path] = []
        self._text = bytearray()
        self._starts = array("Q", [0])
        numbers: dict[str, int] = {}
        ids: list[str] = []
        self._series: dict[
            int, Series
        ] = {}  # which have long lists of files; few datasets have any
        for source in sources:
            if source.series is not None:
                self._series[len(ids)] = source.series
            ids.append(source.id)
            self._text += self._row(source, numbers)
            self._starts.append(len(self._text))
        self._order = array("I", sorted(range(len(ids)), key=ids.__getitem__))

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        place = self._order[index]
        row = bytes(self._text[self._starts[place] : self._starts[place + 1]])
        name, patient, rest = row.split(b"\0", 2)
        images, labels, stratum, text, key = json.loads(rest)
        found = Source.__new__(Source)  # its names were checked when it was first made
        for field, value in (
            ("id", name.decode()),
            ("patient", (patient or name).decode()),
            ("images", self._paths(images)),
            ("labels", self._paths(labels)),
            ("stratum", stratum),
            ("text", text),
            ("key", key),
            ("series", self._series.get(place)),
        ):
            object.__setattr__(found, field, value)
        return found

    def id(self, index: int) -> str:
        """The id of a source."""
        start = self._starts[self._order[index]]
        return self._text[start : self._text.index(0, start)].decode()

    def patient(self, index: int) -> str:
        """The patient of a source."""
        text, start = self._text, self._starts[self._order[index]]
        middle = text.index(0, start)
        end = text.index(0, middle + 1)
        return (text[middle + 1 : end] or text[start:middle]).decode()

    def _row(self, source: Source, numbers: dict[str, int]) -> bytes:
        # Neither an id nor a patient has control characters.
        patient = "" if source.patient == source.id else source.patient
        files = [self._places(paths, numbers) for paths in (source.images, source.labels)]
        rest = [*files, source.stratum, source.text, source.key]
        row = json.dumps(rest, separators=(",", ":"))
        return f"{source.id}\0{patient}\0{row}".encode()

    def _places(self, paths: Iterable[Path], numbers: dict[str, int]) -> list[int | str]:
        """Number of the folder and name of each."""
        found: list[int | str] = []
        for path in paths:
            folder, name = os.path.split(path)
            if folder not in numbers:
                numbers[folder] = len(self._folders)
                self._folders.append(Path(folder))
            found += numbers[folder], name
        return found

    def _paths(self, places: Sequence[Any]) -> tuple[Path, ...]:
        pairs = zip(places[::2], places[1::2], strict=True)
        return tuple(self._folders[folder] / name for folder, name in pairs)
