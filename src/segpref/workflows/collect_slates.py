"""The standing sets of a study, made here or by the workers of a pool, which open everything anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from segpref.cluster import RayPool, spread
from segpref.collect.config import CollectConfig
from segpref.collect.selection import margin_doubt, share_preferring
from segpref.collect.standing import StandingSet
from segpref.judges import Committee
from segpref.preferences import RoundPart, RoundSlates, Scoring, SparseScored, WholeSlates
from segpref.seeds import image_seeds
from segpref.types import Case, PreparedJudge, Slate
from segpref.workflows.collect_inputs import CollectInputs

__all__ = ["KeptSet", "MakeSet", "made_by_pool", "made_here"]

PerPair = Float[np.ndarray, "field K K"]


@dataclass
class KeptSet:
    """A standing set, and what else the choice of pairs needs to know of every image.

    Args:
        slates: the set.
        doubts: how unsure the policy is of its margins; None where it can't tell.
        shares: of an ensemble of judges, the share of them that prefers the first of two candidates;
            None where there is no ensemble.
    """

    slates: RoundSlates | WholeSlates
    doubts: list[PerPair | None] = field(default_factory=list)
    shares: list[PerPair | None] = field(default_factory=list)


MakeSet = Callable[[CollectInputs, CollectConfig, Sequence[int], Path], KeptSet]
"""(inputs, configuration, places of the images in the pool, folder) -> the set, in the folder."""


def made_here(
    inputs: CollectInputs, config: CollectConfig, places: Sequence[int], folder: Path
) -> KeptSet:
    """A set that this process makes."""
    making = _Making(inputs, config, places)
    return _kept(making.set, map(making, making.set.starts), folder)


def made_by_pool(
    pool: RayPool,
    again: Callable[[], CollectInputs],
    inputs: CollectInputs,
    config: CollectConfig,
    places: Sequence[int],
    folder: Path,
) -> KeptSet:
    """The same set, its masks made and scored by the workers of a pool and written by this process.

    Args:
        pool: whose workers see the images, the models and the cache under the same paths.
        again: opens the inputs in a worker.
        inputs: the same, opened here.
        config: of the study.
        places: of the images in the pool of images.
        folder: where the set goes.
    """
    whole = _set_of(inputs, config, places)
    made = spread(pool, _making, (again, config, list(places)), whole.starts, ordered=True)
    return _kept(whole, (one for _, one in made), folder)


class _Made(NamedTuple):
    """The slates of a few images, and what else is known of each of these."""

    part: RoundPart | SparseScored
    doubts: list[PerPair | None]
    shares: list[PerPair | None]


class _Making:
    """Makes slates of a few images after the other."""

    def __init__(self, inputs: CollectInputs, config: CollectConfig, places: Sequence[int]) -> None:
        self._inputs, self._seed = inputs, config.seed
        self._pool = inputs.pool.take(places)
        if isinstance(inputs.judge, PreparedJudge):
            inputs.judge.prepare(self._pool)
        inputs.proposals.prepare(self._pool)
        self.set = _set_of(inputs, config, places)

    def __call__(self, start: int) -> _Made:
        part = self.set.part(start)
        slates = part.slates() if isinstance(part, RoundPart) else [part.slate.whole()]
        cases = [self._pool[start + number] for number in range(len(slates))]
        both = list(zip(cases, slates, strict=True))
        return _Made(
            part,
            [_doubt(self._inputs, case, slate, self._seed) for case, slate in both],
            [_shares(self._inputs, case, slate) for case, slate in both],
        )


def _making(
    again: Callable[[], CollectInputs], config: CollectConfig, places: Sequence[int]
) -> _Making:
    return _Making(again(), config, places)


def _set_of(inputs: CollectInputs, config: CollectConfig, places: Sequence[int]) -> StandingSet:
    return StandingSet(
        inputs.whole_policy, inputs.pool.take(places), inputs.proposals, judge=inputs.judge,
        seed=config.seed, batch_size=config.batch_size, whole=inputs.in_patches,
    )  # fmt: skip


def _kept(whole: StandingSet, made: Iterable[_Made], folder: Path) -> KeptSet:
    doubts: list[PerPair | None] = []
    shares: list[PerPair | None] = []

    def parts() -> Iterator[RoundPart | SparseScored]:
        for one in made:
            doubts.extend(one.doubts)
            shares.extend(one.shares)
            yield one.part

    return KeptSet(whole.keep(folder, parts()), doubts, shares)


PASSES = 6
"""Of the network's last stage under dropout, from which the doubt of a margin is measured."""


def _doubt(inputs: CollectInputs, case: Case, slate: Slate, seed: int) -> PerPair | None:
    """How unsure the policy is of its margins; None where it has no dropout that can be run again."""
    if inputs.in_patches:
        return None
    policy, images = inputs.whole_policy, torch.from_numpy(np.stack([case.image]))
    with torch.no_grad():
        seeds = image_seeds([case.id], seed, 0xD0)
        logits = policy.dropout_logits(policy.forward(images), PASSES, None, seeds)
    if logits is None:
        return None
    return margin_doubt(slate.masks, logits[:, 0].float().cpu().numpy(), inputs.card.label_space)


def _shares(inputs: CollectInputs, case: Case, slate: Slate) -> PerPair | None:
    """Of an ensemble of judges, the share that prefers the first of two candidates."""
    committee = inputs.judge
    if not isinstance(committee, Committee) or len(committee.judges) < 2:
        return None
    scoring = [Scoring(one) for one in committee.judges]
    scores = np.stack([one([one.seen(case)], [slate])[0].scores for one in scoring])
    return np.stack([share_preferring(scores[..., n]) for n in range(scores.shape[-1])])
