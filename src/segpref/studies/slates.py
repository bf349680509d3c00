"""Scored slates of a policy on a dataset, for audits, Select-best and figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.patches import PatchDraw
from segpref.data.predictions import PredictionStore
from segpref.inference.evaluation import VolumeMasks
from segpref.inference.windows import whole_images
from segpref.metrics import score_state
from segpref.policies import ModelCard, TunablePolicy
from segpref.preferences import Candidates, ScoredSlate, Scoring
from segpref.progress import track
from segpref.proposals import SlateProposals
from segpref.seeds import derive_seed
from segpref.types import Judge, Policy, PreparedJudge

__all__ = [
    "ScoredSlate",
    "SlateBatches",
    "images_at_once",
    "patch_draw",
    "patch_slates",
    "scored_slates",
    "select_best",
]

_VOXELS = 2**22
"""Of the images of a batch: a slate takes K bytes of each, and making it several times as much."""


class SlateBatches:
    """Slates of every case under the current policy, scored by the judge, in batches to make apart.

    Large images, and those of a dataset whose images differ in size, go one by one.

    Args:
        policy: of whole prepared images.
        dataset: its cases, with their labels, come with the slates.
        judge: is prepared for them, and sees labels only if it declares them.
        proposals: make the slates.
        seed: of the slates, together with the place of the batch.
        batch_size: images at once, at most.
    """

    def __init__(
        self,
        policy: Policy,
        dataset: Dataset,
        judge: Judge,
        proposals: SlateProposals,
        seed: int,
        batch_size: int = 8,
    ) -> None:
        if isinstance(judge, PreparedJudge):
            judge.prepare(dataset)
        proposals.prepare(dataset)
        self._dataset, self._seed = dataset, seed
        self._made, self._scoring = Candidates(policy, proposals), Scoring(judge)
        self._at_once = images_at_once(dataset, batch_size)

    def __call__(self, start: int) -> Iterator[ScoredSlate]:
        """The batch that begins with this case."""
        indices = range(start, min(start + self._at_once, len(self._dataset)))
        cases = self._dataset.take(indices)[:]
        yield from self._scoring(cases, self._made(cases, derive_seed(self._seed, start)))

    def starts(self) -> range:
        """The cases that batches begin with."""
        return range(0, len(self._dataset), self._at_once)


def scored_slates(
    policy: Policy,
    dataset: Dataset,
    judge: Judge,
    proposals: SlateProposals,
    seed: int,
    batch_size: int = 8,
) -> Iterator[ScoredSlate]:
    """All of :class:`SlateBatches`, one batch at a time."""
    batches = SlateBatches(policy, dataset, judge, proposals, seed, batch_size)
    starts = batches.starts()
    for start in track(starts, "making slates", len(starts)):
        # Nothing of a batch is kept while the next is made.
        yield from batches(start)


def images_at_once(dataset: Dataset, most: int = 8) -> int:
    """How many images of a dataset go into a batch of :class:`SlateBatches`."""
    shapes = {volume.images.shape[2:] for volume, _ in dataset.by_volume()}
    return _at_once(shapes.pop(), most) if len(shapes) == 1 else 1


def patch_slates(
    policy: TunablePolicy,
    dataset: Dataset,
    judge: Judge,
    proposals: SlateProposals,
    patches: PatchDraw,
    seed: int,
    count: int = 8,
    batch_size: int = 8,
) -> Iterator[ScoredSlate]:
    """Slates of patches of every case, made and scored as stage 2 does it.

    Args:
        policy: of patches.
        dataset: whole cases; with the slates come the patches, with their labels.
        judge: is prepared for the cases, and sees labels only if it declares them.
        proposals: make the slates.
        patches: draws them.
        seed: of patches and slates.
        count: patches of every case.
        batch_size: patches at once, at most; fewer where they are large.
    """
    if isinstance(judge, PreparedJudge):
        judge.prepare(dataset)
    proposals.prepare(dataset)
    made, scoring = Candidates(policy, proposals), Scoring(judge)
    assert patches.preparation.patch is not None
    at_once = _at_once(patches.preparation.patch, batch_size)
    batches = range(-(-len(dataset) // at_once))
    steps = [(turn, number) for turn in range(count) for number in batches]
    for turn, number in track(steps, "making slates", len(steps)):
        indices = range(len(dataset))[number * at_once : (number + 1) * at_once]
        key = derive_seed(seed, turn, number)
        cases = patches([dataset[i] for i in indices], indices, key)
        yield from scoring(cases, made(cases, key))


def patch_draw(
    policy: TunablePolicy, card: ModelCard, dataset: Dataset, cache: Cache
) -> PatchDraw | None:
    """What draws patches as stage 2 does, around what the policy predicts; None for whole images.

    Args:
        policy: of patches; what it predicts of the whole cases is kept.
        card: of the policy: how images are prepared and whether it sees patches.
        dataset: whose cases are cut.
        cache: where places in the predicted foreground are kept.
    """
    if card.preparation.patch is None:
        return None
    places = PredictionStore(whole_images([policy], card.preparation), "places", cache)
    places.prepare(dataset)
    return PatchDraw(card.preparation, places.__getitem__, mirroring=card.mirroring)


def select_best(slates: Iterator[ScoredSlate], dataset: Dataset) -> list[VolumeMasks]:
    """Masks of Select-best: the judge's top candidate per field, without any update (Sec. 4.4).

    The anchor is kept where the judge has no score.
    """
    chosen: dict[str, np.ndarray] = {}
    for scored in slates:
        mask = scored.slate.masks[0].copy()
        for number in range(len(mask)):
            column = scored.scores[:, number]
            if score_state(column) == "usable":
                mask[number] = scored.slate.masks[int(np.nanargmax(column)), number]
        chosen[scored.case.id] = mask
    result = []
    for volume, items in dataset.by_volume():
        single = len(volume.images) == 1
        names = [volume.source.id if single else f"{volume.source.id}/s{i:03d}" for i in items]
        result.append((volume, items, np.stack([chosen[name] for name in names])))
    return result


def _at_once(shape: Sequence[int], most: int) -> int:
    return max(1, min(most, _VOXELS // math.prod(shape)))
