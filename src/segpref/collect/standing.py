"""The standing set of a study: slates that are kept for people to vote on, and to train on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpref.collect.one_structure import one_structure_slate
from segpref.data.array_files import ArrayFile, ArrayNote, StoredArray, write_array
from segpref.data.cache import write_atomically
from segpref.data.dataset import Dataset
from segpref.disk import Damaged, cannot_read, cannot_write, from_checked_json, to_checked_json
from segpref.preferences import (
    AbstainingJudge,
    Candidates,
    ProposeSlates,
    RoundPart,
    RoundSlates,
    Scoring,
    SparseScored,
    WholeSlates,
    write_sparse_slates,
)
from segpref.progress import track
from segpref.types import Case, Judge, Policy, SegprefError, Slate

__all__ = ["StandingSet", "drop_cases", "kept_cases"]

_NOTE = "round-000.json"


class StandingSet:
    """The slates of all images of a pool, made in parts and kept in files.

    It is what :class:`~segpref.preferences.RoundSlates` keeps for a round, so that an alignment of the
    same pool trains on the very masks that people saw. Where the structures of a label map exclude each
    other, every candidate differs from the anchor in one structure alone, as far as that goes
    (:func:`~segpref.collect.one_structure.one_structure_slate`).

    Args:
        policy: of whole prepared images; the anchors are its predictions.
        pool: the images.
        proposals: make the candidates; prepared for the pool where parts are made.
        judge: scores the candidates, prepared for the pool as well; None where people alone will.
        seed: of the candidates.
        batch_size: images per network pass.
        whole: whether the model sees patches: its images, which may differ in size, go one by one
            (:class:`~segpref.preferences.WholeSlates`).
    """

    def __init__(
        self,
        policy: Policy,
        pool: Dataset,
        proposals: ProposeSlates,
        *,
        judge: Judge | None = None,
        seed: int = 0,
        batch_size: int = 8,
        whole: bool = False,
    ) -> None:
        self._candidates = Candidates(policy, proposals)
        self._pool, self._seed, self._whole = pool, seed, whole
        self._judge: Any = judge or AbstainingJudge()
        self._batch_size = 1 if whole else batch_size

    @property
    def starts(self) -> range:
        """The images that parts begin with."""
        return range(0, len(self._pool), self._batch_size)

    def part(self, start: int) -> RoundPart | SparseScored:
        """The slates and scores of a few images; nothing is written."""
        if not self._whole:
            return self._round(Path()).part(0, start)
        scoring, case = Scoring(self._judge), self._pool[start]
        slates, _ = self._make([replace(case, label=None, raters=None)], 0)
        return SparseScored.of(scoring([scoring.seen(case)], slates)[0])

    def keep(
        self, folder: Path, parts: Iterable[RoundPart | SparseScored]
    ) -> RoundSlates | WholeSlates:
        """Write all parts, in their order, into a folder."""
        made: Any = parts
        if self._whole:
            return write_sparse_slates(folder, track(made, "making masks", len(self._pool)))
        kept = self._round(folder, lambda _: made)
        kept([0], 0, 0)
        return kept

    def _round(
        self, folder: Path, elsewhere: Callable[[range], Iterable[RoundPart]] | None = None
    ) -> RoundSlates:
        return RoundSlates(
            self._make, self._pool, self._judge, folder, every=1, batch_size=self._batch_size,
            elsewhere=elsewhere,
        )  # fmt: skip

    def _make(self, cases: Sequence[Case], number: int) -> tuple[list[Slate], None]:
        slates = self._candidates(cases, self._seed, (number,))
        return [one_structure_slate(slate, self._pool.label_space) for slate in slates], None


def kept_cases(folder: Path) -> tuple[str, ...]:
    """Ids of the cases that a set is of, in its order; none where there is no set."""
    if WholeSlates.there(folder):
        return WholeSlates(folder).cases
    note = _note(_finished(folder))
    return () if note is None else tuple(str(case) for case in note["cases"])


def drop_cases(folder: Path, dropped: Callable[[str], bool]) -> int:
    """Remove cases from a set, whose files are written anew; a set that becomes empty is removed.

    Killed at any moment it leaves the old set or the new one.

    Args:
        folder: of the set.
        dropped: which cases go, by their ids.

    Returns:
        How many went.

    Raises:
        SegprefError: the files are not what was written, or can't be written.
    """
    if WholeSlates.there(folder):
        return WholeSlates(folder).drop(dropped)
    folder = _finished(folder)
    note = _note(folder)
    if note is None:
        return 0
    cases = note["cases"]
    left = [place for place, case in enumerate(cases) if not dropped(case)]
    if len(left) == len(cases):
        return 0
    fresh = _fresh(folder)
    if left:
        # Several patches of an image lie one set of all images after the other.
        turns = len(note["candidates"]) // len(cases)
        rows = [turn * len(cases) + place for turn in range(turns) for place in left]
        arrays = {}
        try:
            fresh.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(fresh, error, "restore the permission to write there") from error
        for name, one in note["arrays"].items():
            file = folder / f"round-000.{name}.npy"
            own = StoredArray(ArrayFile(file, ArrayNote.from_json(one), _refuse(file)))
            target = fresh / file.name
            arrays[name] = write_array(target, own[rows], "free some space").to_json()
        told = {name: [note[name][row] for row in rows if note[name]] for name in _PER_ROW}
        content = {**note, **told, "cases": [cases[place] for place in left], "arrays": arrays}
        write_atomically(fresh / _NOTE, to_checked_json(content))
    _remove(folder)
    if left:
        fresh.replace(folder)
    return len(cases) - len(left)


_PER_ROW = ("candidates", "scores", "uncertainty")


def _fresh(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _finished(folder: Path) -> Path:
    """The folder, after a replacement that was stopped between its two steps is finished."""
    fresh = _fresh(folder)
    if (fresh / _NOTE).is_file() and not (folder / _NOTE).is_file():
        _remove(folder)
        fresh.replace(folder)
    return folder


def _remove(folder: Path) -> None:
    # The note first: without it the rest is no set.
    (folder / _NOTE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _note(folder: Path) -> dict[str, Any] | None:
    file = folder / _NOTE
    try:
        return from_checked_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except Damaged as error:
        raise SegprefError(
            f"{file} is not what was written ({error}): restore it, or make the study again"
        ) from error
    except OSError as error:
        raise cannot_read(file, error) from error


def _refuse(file: Path) -> Callable[[ArrayNote, str], ArrayNote]:
    def refuse(_: ArrayNote, reason: str) -> ArrayNote:
        raise SegprefError(
            f"{file} is not what was written ({reason}): restore it, or make the study again"
        )

    return refuse
