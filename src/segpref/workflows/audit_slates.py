"""The slates of an audit, made here or by the workers of a pool, which open everything anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpref.cluster import RayPool, spread
from segpref.data import Cache, Dataset, Reader
from segpref.data.predictions import predict_ahead
from segpref.inference.windows import whole_images
from segpref.judges import NamedJudge, note_undrawn_structures
from segpref.progress import track
from segpref.proposals import Families, SlateProposals
from segpref.studies.slates import ScoredSlate, SlateBatches, images_at_once
from segpref.types import Judge, Policy, PreparedJudge
from segpref.workflows.inputs import open_inputs
from segpref.workflows.loading import check_masks, part_of
from segpref.workflows.options import DataOptions, TrainedModel

__all__ = ["AuditInputs", "open_audit", "pool_slates"]


@dataclass(frozen=True)
class AuditInputs:
    """What slates are made of.

    Args:
        policy: predicts whole images.
        cases: on which judge and slates are measured.
        judge: scores the candidates.
        proposals: make the slates.
        unused: patients whose labels the judge has learned from and the model has not; None where
            there is none, or it does not say.
    """

    policy: Policy
    cases: Dataset
    judge: Judge
    proposals: SlateProposals
    unused: int | None


def open_audit(
    model: Path,
    data: Reader | Path | str,
    judge: Judge | NamedJudge | Sequence[Any] | os.PathLike[str] | str,
    where: DataOptions,
    opening: TrainedModel,
    part: str,
    candidates: int,
    families: Families,
    others: Sequence[Path] | None,
    workers: RayPool | None = None,
) -> AuditInputs:
    """Open the inputs of :func:`~segpref.audit`, here or in a worker, which sees the same files.

    Raises:
        SegprefError: what does not fit together.
    """
    store = Cache(where.cache)
    inputs = open_inputs(model, data, judge, where, opening, store, workers=workers)
    opened, cases = inputs.model, part_of(inputs.dataset, inputs.split, part)
    making = inputs.families(families, others, candidates, store)
    check_masks(inputs.judge, making, cases)
    policy = whole_images(opened.policies(), opened.card.preparation, opened.mirroring)
    # Masks on disk do not tell whose labels their program has learned from.
    unused = len({*inputs.judged} - {*opened.card.labelled}) or None
    return AuditInputs(policy, cases, inputs.judge, SlateProposals(candidates, making), unused)


def pool_slates(
    pool: RayPool, again: Callable[[], AuditInputs], inputs: AuditInputs, seed: int
) -> Iterator[ScoredSlate]:
    """The slates of :func:`~segpref.studies.audit.audit`, in its order, made by the workers of a pool.

    What the judge predicts is predicted by the workers at once, and found in the cache.

    Args:
        pool: whose workers see the data, the models and the cache under the same paths.
        again: opens the inputs in a worker.
        inputs: the same, opened here.
        seed: of the slates.
    """
    cases = inputs.cases.labelled()
    if isinstance(inputs.judge, PreparedJudge):
        starts = range(0, len(cases), _PREDICTED)
        done = spread(pool, _Predicting, (again,), starts)
        for _ in track(done, "predicting by the judge", len(starts)):
            pass
    return _made(pool, again, cases, seed)


def _made(
    pool: RayPool, again: Callable[[], AuditInputs], cases: Dataset, seed: int
) -> Iterator[ScoredSlate]:
    starts = range(0, len(cases), images_at_once(cases))
    made = spread(pool, _Slates, (again, seed), starts, ordered=True)
    for _, slates in track(made, "making slates", len(starts)):
        yield from slates


_PREDICTED = 8
"""Cases whose predictions are asked for at once."""


class _Predicting:
    """Fills the cache with what the judge predicts."""

    def __init__(self, again: Callable[[], AuditInputs]) -> None:
        inputs = again()
        self._judge: Any = inputs.judge
        self._cases = inputs.cases.labelled()

    def __call__(self, start: int) -> None:
        part = self._cases.take(range(start, min(start + _PREDICTED, len(self._cases))))
        self._judge.prepare(part)
        predict_ahead(self._judge, part)


class _Slates:
    """Makes the slates of a batch."""

    def __init__(self, again: Callable[[], AuditInputs], seed: int) -> None:
        inputs = again()
        cases = inputs.cases.labelled()
        note_undrawn_structures(inputs.judge, cases)
        self._batches = SlateBatches(inputs.policy, cases, inputs.judge, inputs.proposals, seed)

    def __call__(self, start: int) -> list[ScoredSlate]:
        return list(self._batches(start))
