"""Slates of a policy on a dataset, scored: what audits, Select-best and pictures are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from segpref.data.dataset import Dataset
from segpref.inference.evaluation import VolumeMasks
from segpref.metrics import opinion
from segpref.progress import track
from segpref.proposals import SlateProposals
from segpref.training.loop import step_seed
from segpref.types import Case, Judge, Policy, Slate

__all__ = ["ScoredSlate", "scored_slates", "select_best"]


@dataclass(frozen=True, slots=True)
class ScoredSlate:
    """One case with its slate and the judge's scores ``[K, field]``."""

    case: Case
    slate: Slate
    scores: np.ndarray


def scored_slates(
    policy: Policy,
    dataset: Dataset,
    judge: Judge,
    proposals: SlateProposals,
    seed: int,
    batch_size: int = 8,
) -> Iterator[ScoredSlate]:
    """Slates of every case under the policy as it is, scored by the judge."""
    if hasattr(judge, "prepare"):
        judge.prepare(dataset)
    seen = dataset if judge.needs_label else dataset.without_labels()
    starts = range(0, len(dataset), batch_size)
    with torch.no_grad():
        for start in track(starts, "making slates", len(starts)):
            indices = range(start, min(start + batch_size, len(dataset)))
            cases = [seen[i] for i in indices]
            images = torch.from_numpy(np.stack([case.image for case in cases]))
            state = policy.forward(images)
            slates = proposals(policy, state, images, cases, step_seed(seed, start))
            for i, case, slate in zip(indices, cases, slates, strict=True):
                yield ScoredSlate(dataset[i], slate, judge.score(case, slate))


def select_best(slates: Iterator[ScoredSlate], dataset: Dataset) -> list[VolumeMasks]:
    """Masks of Select-best: the judge's top candidate per field, without any update (Sec. 4.4).

    The anchor is kept where the judge has no opinion.
    """
    chosen: dict[str, np.ndarray] = {}
    for scored in slates:
        mask = scored.slate.masks[0].copy()
        for number in range(len(mask)):
            column = scored.scores[:, number]
            if opinion(column) == "usable":
                mask[number] = scored.slate.masks[int(np.nanargmax(column)), number]
        chosen[scored.case.id] = mask
    result = []
    for volume, items in dataset.by_volume():
        single = len(volume.images) == 1
        names = [volume.source.id if single else f"{volume.source.id}/s{i:03d}" for i in items]
        result.append((volume, items, np.stack([chosen[name] for name in names])))
    return result
