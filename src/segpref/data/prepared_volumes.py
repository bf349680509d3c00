"""Volumes that lie in the cache, in few bytes each: a pool may have a hundred thousand.

What is known of each volume is held in columns, and what many have in common once. A volume, its
source, its key and the handles of its arrays are made when they are asked for, equal ones every time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from segpref.data.array_files import UNSEEN, ArrayNote
from segpref.data.source import Source
from segpref.data.source_list import SourceList
from segpref.data.volume_entries import Found, Way
from segpref.data.volume_list import Volume, VolumeList

__all__ = ["PreparedVolumes"]

_ARRAYS = ("images", "labels", "raters")


class _Kind(NamedTuple):
    """What many volumes have in common: all but their files, and the checksums of their arrays."""

    way: Way
    notes: Mapping[str, ArrayNote]
    spacing_mm: tuple[float, ...] | None
    orientation: str | None
    voxel_mm: tuple[float, ...] | None

    @property
    def turned(self) -> str | None:
        return self.way.turned

    @property
    def colour(self) -> bool:
        return self.way.colour


class PreparedVolumes(VolumeList):
    """One volume per source.

    Args:
        sources: in their order. A list that a reader made of objects stays that list.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        count = len(sources)
        self._sources = sources
        self._content = np.zeros((count, 16), np.uint8)
        self._kind = np.zeros(count, np.int32)
        self._kinds: list[_Kind] = []
        self._numbers: dict[str, int] = {}
        self._digests: dict[str, np.ndarray] = {}
        self._seen: dict[str, np.ndarray] = {}
        self._arrays: tuple[str, ...] = _ARRAYS

    def __getstate__(self) -> dict[str, Any]:
        # Another process checks files for itself, and has nothing to make them anew with.
        state = {**vars(self), "_kinds": [k._replace(way=k.way.elsewhere()) for k in self._kinds]}
        state["_seen"] = {name: np.full_like(one, UNSEEN) for name, one in self._seen.items()}
        return state

    def __len__(self) -> int:
        return len(self._sources)

    def put(self, number: int, way: Way, found: Found) -> None:
        """Note what was found of a volume.

        Args:
            number: of its source.
            way: how it was prepared.
            found: in the cache.
        """
        notes = {name: found.arrays[name].note for name in _ARRAYS if name in found.arrays}
        for name, note in notes.items():
            if name not in self._digests:
                self._digests[name] = np.zeros((len(self), 32), np.uint8)
                self._seen[name] = np.full(len(self), UNSEEN, np.int64)
            self._digests[name][number] = _bytes(note.digest)
        alike = {name: replace(note, digest="") for name, note in notes.items()}
        # Its text is the same where a size is NaN, too.
        text = repr((id(way), alike, found[2:]))
        kind = self._numbers.setdefault(text, len(self._kinds))
        if kind == len(self._kinds):
            self._kinds.append(_Kind(way, alike, *found[2:]))
        self._content[number], self._kind[number] = _bytes(found.content), kind

    def examples(self) -> list[int]:
        """The first volume of each kind, in order; those of a kind have arrays of the same shapes."""
        first = np.sort(np.unique(self._kind, return_index=True)[1])
        found: list[int] = first.tolist()
        return found

    def lengths(self) -> Sequence[int]:
        """How many items each volume has."""
        lengths = np.array([kind.notes["images"].shape[0] for kind in self._kinds])
        found: list[int] = lengths[self._kind].tolist()
        return found

    def length(self, number: int) -> int:
        """How many items a volume has."""
        shape: tuple[int, ...] = self._kinds[self._kind[number]].notes["images"].shape
        return shape[0]

    def id(self, number: int) -> str:
        """The id of a volume's source."""
        sources = self._sources
        if isinstance(sources, SourceList):
            return sources.id(number)
        return str(sources[number].id)

    def patient(self, number: int) -> str:
        """Whom a volume is of."""
        sources = self._sources
        if isinstance(sources, SourceList):
            return sources.patient(number)
        return str(sources[number].patient)

    def content(self, number: int) -> str:
        """What identifies the content of a volume's files, wherever they are."""
        found: str = self._content[number].tobytes().hex()
        return found

    def has_labels(self, number: int) -> bool:
        """Whether there is a label."""
        return "labels" in self._arrays and "labels" in self._kinds[self._kind[number]].notes

    @cached_property
    def _without_labels(self) -> VolumeList:
        bare = PreparedVolumes.__new__(PreparedVolumes)
        # Not by copy(), which gives what another process gets.
        vars(bare).update(vars(self), _arrays=("images",))
        return bare

    def _volume(self, number: int) -> Volume:
        volume = _PreparedVolume.__new__(_PreparedVolume)
        object.__setattr__(volume, "_list", self)
        object.__setattr__(volume, "_number", number)
        return volume

    def part(self, volume: Volume, number: int, name: str) -> Any:
        """A field of a volume.

        Args:
            volume: made by this list.
            number: its number in it.
            name: of the field.
        """
        kind = self._kinds[self._kind[number]]
        if name == "source":
            return self._sources[number]
        if name == "key":
            return kind.way.key(volume.source, self.content(number))
        if name not in _ARRAYS:
            return getattr(kind, name)
        if name not in self._arrays or name not in kind.notes:
            return None
        digest = self._digests[name][number].tobytes().hex()
        note = replace(kind.notes[name], digest=digest)
        entry = kind.way.entry(volume.source, volume.key)
        return entry.array(name, note, self._seen[name][number : number + 1])


class _PreparedVolume(Volume):
    """A volume of a list: its fields are made when they are first asked for, and then kept."""

    __slots__ = ("_list", "_number")
    _list: PreparedVolumes
    _number: int

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is not there; a copy has all fields, and neither list nor number.
        if name not in Volume.__dataclass_fields__:
            raise AttributeError(f"a volume has no {name}")
        found = self._list.part(self, self._number, name)
        object.__setattr__(self, name, found)
        return found


def _bytes(digest: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(digest), np.uint8)
