"""Slates of whole images for a model that sees patches: kept as anchors and what differs from them.

Images differ in size, and K masks of one volume may take gigabytes. Candidates differ from the anchor
in a small part of the voxels, so only these are kept of them, and a patch is cut without the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8

from segpref.data.array_files import ArrayFile, ArrayNote, StoredArray, write_array
from segpref.data.cache import write_atomically
from segpref.disk import Damaged, cannot_read, cannot_write, from_checked_json, to_checked_json
from segpref.preferences.candidates import ScoredSlate, content_ids
from segpref.preferences.round_slates import RoundBatch
from segpref.types import IGNORE, Candidate, SegprefError, Slate, Window

__all__ = [
    "SparseScored",
    "SparseSlate",
    "WholeSlates",
    "write_sparse_slates",
    "write_whole_slates",
]

_NOTE = "whole.json"
_ARRAYS = ("anchor", "at", "value")
_AS_ANCHOR = 256
_FULL = "choose another --out"


@dataclass(frozen=True, slots=True)
class SparseSlate:
    """The slate of a whole image, of which no more is read than what is asked for.

    Args:
        anchor: the first mask, ``[field, *space]``.
        at: of each candidate, the places in the flat anchor at which it differs from it, rising.
        value: what it holds there.
        candidates: what made them.
        ids: content ids of the masks.
    """

    anchor: StoredArray | UInt8[np.ndarray, "field *space"]
    at: Sequence[Int64[np.ndarray, " n"]]
    value: Sequence[UInt8[np.ndarray, " n"]]
    candidates: tuple[Candidate, ...]
    ids: tuple[str, ...]

    @classmethod
    def of(cls, slate: Slate) -> SparseSlate:
        """The sparse form of a slate."""
        anchor = slate.masks[0]
        at = [np.flatnonzero(mask != anchor) for mask in slate.masks]
        value = [mask.reshape(-1)[own] for mask, own in zip(slate.masks, at, strict=True)]
        return cls(anchor, at, value, slate.candidates, content_ids(slate))

    def whole(self) -> Slate:
        """All masks, ``[K, field, *space]``."""
        masks = np.repeat(np.asarray(self.anchor)[None], len(self.ids), axis=0)
        for mask, at, value in zip(masks, self.at, self.value, strict=True):
            mask.reshape(-1)[at] = value
        return Slate(masks, self.candidates, self.ids)

    def cut(self, window: Window) -> Slate:
        """What lies in a window, with :data:`~segpref.types.IGNORE` beyond the image.

        The parts keep the ids of the whole masks.
        """
        first = window.cut(self.anchor, IGNORE)
        masks = np.repeat(first[None], len(self.ids), axis=0)
        for mask, at, value in zip(masks, self.at, self.value, strict=True):
            field, *places = np.unravel_index(at, self.anchor.shape)
            inside = np.ones(len(at), bool)
            own = []
            for axis, (place, start, size) in enumerate(
                zip(places, window.start, window.size, strict=True)
            ):
                local = place - start
                inside &= (local >= 0) & (local < size)
                own.append(size - 1 - local if axis in window.mirrored else local)
            mask[(field[inside], *(one[inside] for one in own))] = value[inside]
        return Slate(masks, self.candidates, self.ids)

    def differing(self, first: int, second: int) -> Int64[np.ndarray, " n"]:
        """Places in the flat anchor at which two candidates differ from each other."""
        places = np.union1d(self.at[first], self.at[second])
        held = np.full((2, len(places)), _AS_ANCHOR)
        for row, number in zip(held, (first, second), strict=True):
            row[np.searchsorted(places, self.at[number])] = self.value[number]
        return np.asarray(places[held[0] != held[1]])


@dataclass(frozen=True, slots=True)
class SparseScored:
    """What is kept of a case.

    Args:
        case: its id.
        slate: its candidates.
        scores: the judge's, ``[K, field]``.
    """

    case: str
    slate: SparseSlate
    scores: Float[np.ndarray, "K field"]

    @classmethod
    def of(cls, scored: ScoredSlate) -> SparseScored:
        """The sparse form of a scored slate."""
        return cls(scored.case.id, SparseSlate.of(scored.slate), scored.scores)


class WholeSlates:
    """Standing slates of whole images in a folder; as :class:`RoundSlates` gives those of one size.

    Args:
        folder: where :func:`write_whole_slates` put them.

    Raises:
        SegprefError: the folder holds none, or its files are not what was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[int, tuple[StoredArray, ...]] = {}

    @staticmethod
    def there(folder: Path) -> bool:
        """Whether a folder holds such slates."""
        return (folder / _NOTE).is_file()

    @cached_property
    def _note(self) -> dict[str, Any]:
        file = self.folder / _NOTE
        try:
            return from_checked_json(file.read_bytes())
        except Damaged as error:
            raise _bad(file, str(error)) from error
        except OSError as error:
            raise cannot_read(file, error) from error

    @property
    def cases(self) -> tuple[str, ...]:
        """Ids of the cases, in their order."""
        return tuple(one["case"] for one in self._note["slates"])

    def sparse(self, place: int, wanted: Collection[str] | None = None) -> SparseSlate:
        """The slate of one case.

        Args:
            place: of the case.
            wanted: content ids of the candidates that are read besides the anchor; all where None.
        """
        one = self._note["slates"][place]
        anchor, at, value = self._arrays(place)
        ends = [0, *one["ends"]]
        rows = [
            row
            for row, name in enumerate(one["ids"])
            if not row or wanted is None or name in wanted
        ]
        parts = [slice(ends[row], ends[row + 1]) for row in rows]
        return SparseSlate(
            anchor,
            [at[part] for part in parts],
            [value[part] for part in parts],
            tuple(Candidate(*one["candidates"][row]) for row in rows),
            tuple(one["ids"][row] for row in rows),
        )

    def _arrays(self, place: int) -> tuple[StoredArray, ...]:
        """Handles of the files of one case: each file is verified when it is first read."""
        if place not in self._known:
            one = self._note["slates"][place]
            self._known[place] = tuple(
                StoredArray(ArrayFile(file, ArrayNote.from_json(note), partial(_refuse, file)))
                for kind in _ARRAYS
                for file in [self.folder / f"{one['file']}.{kind}.npy"]
                for note in [one["arrays"][kind]]
            )
        return self._known[place]

    def scores(self, place: int) -> Float[np.ndarray, "K field"]:
        """The judge's scores of one case."""
        return np.array(self._note["slates"][place]["scores"], np.float64)

    def __call__(self, indices: Sequence[int], epoch: int, number: int) -> RoundBatch:
        """Scored slates of these cases, whatever epoch and step."""
        slates = [self.sparse(place).whole() for place in indices]
        return RoundBatch(slates, [self.scores(place) for place in indices], None, None)

    def drop(self, dropped: Callable[[str], bool]) -> int:
        """Remove cases; the files of a set that becomes empty are all removed.

        Killed at any moment it leaves the old set or the new one, with files that nobody reads.

        Returns:
            How many went.
        """
        gone = [one for one in self._note["slates"] if dropped(one["case"])]
        left = [one for one in self._note["slates"] if not dropped(one["case"])]
        if gone and left:
            _write_note(self.folder, left)
        elif gone:
            (self.folder / _NOTE).unlink()
        kept = {one["file"] for one in left}
        for file in self.folder.glob("*.npy"):
            if file.name.split(".")[0] not in kept:
                file.unlink(missing_ok=True)
        if gone and not left:
            self.folder.rmdir()
        self.__dict__.pop("_note", None)
        self._known.clear()
        return len(gone)


def write_whole_slates(folder: Path, slates: Iterable[ScoredSlate]) -> WholeSlates:
    """Keep slates of whole images, one after the other, with their scores.

    Args:
        folder: where they go; what is there already is left as it is.
        slates: of different cases.
    """
    return write_sparse_slates(folder, map(SparseScored.of, slates))


def write_sparse_slates(folder: Path, slates: Iterable[SparseScored]) -> WholeSlates:
    """The same of slates in sparse form."""
    if WholeSlates.there(folder):
        return WholeSlates(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error, _FULL) from error
    notes = []
    for number, one in enumerate(slates):
        sparse, name = one.slate, f"{number:06d}"
        parts = (sparse.anchor, np.concatenate(sparse.at), np.concatenate(sparse.value))
        notes.append({
            "case": one.case,
            "file": name,
            "ids": sparse.ids,
            "candidates": [(c.family, dict(c.settings)) for c in sparse.candidates],
            "scores": one.scores.tolist(),
            "ends": np.cumsum([len(at) for at in sparse.at]).tolist(),
            "arrays": {
                kind: write_array(folder / f"{name}.{kind}.npy", np.asarray(part), _FULL).to_json()
                for kind, part in zip(_ARRAYS, parts, strict=True)
            },
        })  # fmt: skip
    _write_note(folder, notes)
    return WholeSlates(folder)


def _write_note(folder: Path, slates: Sequence[Any]) -> None:
    write_atomically(folder / _NOTE, to_checked_json({"slates": slates}))


def _refuse(file: Path, _: ArrayNote, reason: str) -> ArrayNote:
    raise _bad(file, reason)


def _bad(file: Path, reason: str) -> SegprefError:
    return SegprefError(
        f"{file} is not what was written ({reason}): restore it, or make the study again"
    )
