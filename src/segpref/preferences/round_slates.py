"""Slates of a round: made and scored once for the whole pool, kept in files (MAPO, Sec. 3.3.4)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from segpref.data.array_files import ArrayFile, ArrayNote, ArrayWriter, StoredArray
from segpref.data.cache import write_atomically
from segpref.data.dataset import Dataset
from segpref.disk import Damaged, cannot_read, cannot_write, from_checked_json, to_checked_json
from segpref.preferences.candidates import ProposeSlates, ScoredSlate, Scoring
from segpref.preferences.patches import RoundPatches
from segpref.preferences.slate_workers import OneAhead, SlateWorkers
from segpref.progress import track
from segpref.runtime import runtime
from segpref.types import Candidate, Case, Judge, SegprefError, Slate

__all__ = ["MakeSlates", "RoundBatch", "RoundPart", "RoundSlates"]

MakeSlates = Callable[[Sequence[Case], int], tuple[Sequence[Any], np.ndarray | None]]
"""(cases, number of the round) -> their slates, or drafts that ``RoundSlates.proposals`` edit, and
logits that are to be kept with them."""


class RoundBatch(NamedTuple):
    """The slates and scores of some images.

    Args:
        slates: one per image.
        scores: the judge's, per image.
        uncertainty: the judge's uncertainty of each score; None if it is not computed.
        logits: what was kept with the slates.
    """

    slates: list[Slate]
    scores: list[Float[np.ndarray, "K field"]]
    uncertainty: list[Float[np.ndarray, "K field"]] | None
    logits: Float[np.ndarray, "B C *space"] | None


class RoundPart(NamedTuple):
    """The slates and scores of a few images of a round, as its files keep them."""

    arrays: dict[str, np.ndarray]
    candidates: list[list[tuple[str, dict[str, Any]]]]
    scores: list[Any]
    uncertainty: list[Any]

    def slates(self) -> list[Slate]:
        """The slates, as they are read from the files."""
        each = zip(self.arrays["masks"], self.candidates, strict=True)
        return [Slate(masks, _candidates(told)) for masks, told in each]


class RoundSlates:
    """Slates and scores of the whole pool, made when a round begins.

    Epoch e is in round ``e // every``. The set of a round is made when it is first asked for, at the
    first step of the round's first epoch, and lies in files, one mask after the other: memory does
    not grow with the pool, and a resumed run uses the same set. Only the
    current round is kept.

    Args:
        make: makes the slates of some cases, or their drafts.
        pool: the images.
        judge: scores the slates, prepared for the pool; sees labels only if it declares them.
        folder: where the sets go.
        every: epochs per round; 50 of 200 in MAPO's 2D, 200 of 800 in its 3D.
        batch_size: images whose slates are made together.
        unsure: whether the judge's uncertainty is computed.
        patches: which patches of the images the slates are of; None for whole images.
        proposals: edit the drafts; None where ``make`` gives slates.
        workers: processes that edit and score while ``make`` goes on with other images; the sets are
            the same for any number.
        elsewhere: has the parts that begin with these images (:meth:`part`) made by other processes
            and gives them in this order; they are made here where None.

    Raises:
        SegprefError: less than one epoch per round.
    """

    def __init__(
        self,
        make: MakeSlates,
        pool: Dataset,
        judge: Judge,
        folder: Path,
        *,
        every: int,
        batch_size: int = 8,
        unsure: bool = False,
        patches: RoundPatches | None = None,
        proposals: ProposeSlates | None = None,
        workers: int = 0,
        elsewhere: Callable[[range], Iterable[RoundPart]] | None = None,
    ) -> None:
        if every < 1:
            raise SegprefError(f"a round needs at least 1 epoch, not {every}")
        self.every = every
        self._make_slates = make
        self._seen = pool if judge.needs_label else pool.without_labels()
        self._scoring = Scoring(judge, unsure)
        self._folder = folder
        self._batch_size = batch_size
        self._patches = patches
        self._proposals, self._processes = proposals, workers
        self._elsewhere = elsewhere
        self._round = -1
        self._masks: StoredArray | None = None
        self._logits: StoredArray | None = None
        self._scores = np.empty(0)
        self._doubts: np.ndarray | None = None
        self._candidates: list[tuple[Candidate, ...]] = []

    def __call__(self, indices: Sequence[int], epoch: int, number: int) -> RoundBatch:
        """Scored slates of images of the pool in this epoch's round.

        Raises:
            SegprefError: the round has begun, but its files are gone or not what was written; or they
                can't be written, the disk being full, say.
        """
        self._open(epoch, number)
        rows = list(indices) if self._patches is None else self._patches.rows(indices, epoch)
        assert self._masks is not None
        masks_of = self._masks[rows]
        return RoundBatch(
            [Slate(masks, self._candidates[i]) for masks, i in zip(masks_of, rows, strict=True)],
            [self._scores[i] for i in rows],
            None if self._doubts is None else [self._doubts[i] for i in rows],
            None if self._logits is None else self._logits[rows],
        )

    def _open(self, epoch: int, step: int) -> None:
        number = epoch // self.every
        if number == self._round:
            return
        if not self._file(number, "json").exists():
            if epoch % self.every or step:
                raise SegprefError(
                    f"{self._file(number, 'json')} is missing, and the policy has learned since it was "
                    "made: restore it, or start the run again"
                )
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(self._folder, error, "choose another --out") from error
            self._make(number)
        note = self._note(number)
        if note.get("cases") != self._ids():
            raise SegprefError(
                f"{self._file(number, 'json')} holds slates of other cases than the pool's: give the "
                "pool that they were made of, or another folder"
            )
        arrays = {
            name: StoredArray(ArrayFile(file, ArrayNote.from_json(one), partial(_refuse, file)))
            for name, one in note["arrays"].items()
            for file in [self._file(number, f"{name}.npy")]
        }
        self._candidates = [_candidates(slate) for slate in note["candidates"]]
        self._scores = np.array(note["scores"])
        self._doubts = np.array(note["uncertainty"]) if self._scoring.unsure else None
        self._masks, self._logits = arrays["masks"], arrays.get("logits")
        self._round = number
        for old in self._folder.glob("round-*"):
            if not old.name.startswith(f"round-{number:03d}."):
                old.unlink(missing_ok=True)

    def _make(self, number: int) -> None:
        """Make the set, of several processes each its part; the first one writes."""
        here = runtime()
        with SlateWorkers(self._proposals, self._scoring, self._processes) as workers:
            parts = self._parts(workers, number)
            if not here.writes:
                deque(parts, maxlen=0)
            else:
                shown = track(parts, f"preference set {number + 1}", len(self.starts))
                self._keep(number, self._count, shown)
        here.meet()

    def _parts(self, workers: SlateWorkers, number: int) -> Iterable[RoundPart]:
        if self._elsewhere is not None:
            return self._elsewhere(self.starts)
        here, begin = runtime(), partial(self._begun, workers, number)
        ahead = self._count if workers.count else 0
        return here.each(self.starts, OneAhead(begin, here.turn * self._batch_size, ahead))

    @property
    def _count(self) -> int:
        return len(self._seen) if self._patches is None else self._patches.count

    @property
    def starts(self) -> range:
        """The images, or patches, that parts begin with."""
        return range(0, self._count, self._batch_size)

    def part(self, number: int, start: int) -> RoundPart:
        """Slates and scores of a few images, or patches, of a round; nothing is written."""
        with SlateWorkers(self._proposals, self._scoring) as workers:
            return self._begun(workers, number, start)()

    def _begun(self, workers: SlateWorkers, number: int, start: int) -> Callable[[], RoundPart]:
        """Slates and scores of a few images, or patches, of the round, as soon as they are there."""
        rows = range(start, min(start + self._batch_size, self._count))
        cases = [self._seen[i % len(self._seen)] for i in rows]
        if self._patches is not None:
            cases = self._patches.cut(cases, rows, number)
        drafts, logits = self._make_slates(cases, number)
        scored = workers.begin(cases, drafts)
        return lambda: _part(scored(), logits)

    def _keep(self, number: int, count: int, parts: Iterable[RoundPart]) -> None:
        with ExitStack() as files:
            try:
                notes, content = self._write(number, count, parts, files)
                for name in notes:
                    self._partial(number, name).replace(self._file(number, f"{name}.npy"))
            except BaseException:
                # What is half-written may be what fills the disk.
                for path in self._folder.glob(f".round-{number:03d}.*.partial"):
                    path.unlink(missing_ok=True)
                raise
        # The last file says that all of them are there.
        content["arrays"] = {name: note.to_json() for name, note in notes.items()}
        write_atomically(self._file(number, "json"), to_checked_json(content))

    def _write(
        self, number: int, count: int, parts: Iterable[RoundPart], files: ExitStack
    ) -> tuple[dict[str, ArrayNote], dict[str, Any]]:
        """Write the set's arrays, and give what is to be known of them and of the slates."""
        content: dict[str, list[Any]] = {"candidates": [], "scores": [], "uncertainty": []}
        writers: dict[str, ArrayWriter] = {}
        for part in parts:
            for name, values in part.arrays.items():
                if name not in writers:
                    path, shape = self._partial(number, name), (count, *values.shape[1:])
                    writer = ArrayWriter(path, values.dtype, shape, "choose another --out")
                    writers[name] = files.enter_context(writer)
                writers[name].append(values)
            content["candidates"] += part.candidates
            content["scores"] += part.scores
            content["uncertainty"] += part.uncertainty
        notes = {name: writer.close() for name, writer in writers.items()}
        return notes, {"cases": self._ids(), **content}

    def _ids(self) -> list[str]:
        return [case.id for case in self._seen]

    def _note(self, number: int) -> dict[str, Any]:
        path = self._file(number, "json")
        try:
            return from_checked_json(path.read_bytes())
        except Damaged as error:
            raise _bad(path, str(error)) from error
        except OSError as error:
            raise cannot_read(path, error) from error

    def _file(self, number: int, kind: str) -> Path:
        return self._folder / f"round-{number:03d}.{kind}"

    def _partial(self, number: int, name: str) -> Path:
        return self._folder / f".round-{number:03d}.{name}.partial"


def _part(scored: Sequence[ScoredSlate], logits: np.ndarray | None) -> RoundPart:
    arrays = {"masks": np.stack([one.slate.masks for one in scored])}
    if logits is not None:
        arrays["logits"] = logits
    return RoundPart(
        arrays,
        [[(c.family, dict(c.settings)) for c in one.slate.candidates] for one in scored],
        [one.scores.tolist() for one in scored],
        [one.uncertainty.tolist() for one in scored if one.uncertainty is not None],
    )


def _candidates(told: Iterable[tuple[str, dict[str, Any]]]) -> tuple[Candidate, ...]:
    return tuple(Candidate(family, settings) for family, settings in told)


def _refuse(path: Path, _: ArrayNote, reason: str) -> ArrayNote:
    raise _bad(path, reason)


def _bad(path: Path, reason: str) -> SegprefError:
    return SegprefError(
        f"{path} is not what was written ({reason}), and the policy may have learned since: restore "
        "it, or start the run again in another folder"
    )
