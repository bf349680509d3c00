"""Training signals from scored slates: preferences between masks, or the best mask itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.metrics import harmful_update_mass, score_state
from segpref.objectives.groups import grouped
from segpref.objectives.likelihood import Disagreement, Reduction, disagreement
from segpref.objectives.pairwise import DPO, update_strength
from segpref.objectives.step import step_objective
from segpref.objectives.supervised import SupervisedLoss
from segpref.preferences import KeepPairs, Mined, RecordedPairs, TopVsRandom, mine
from segpref.runtime import moved, runtime, step_total
from segpref.training.figures import Amount, Derived, times
from segpref.training.loop import StepResult
from segpref.training.margins import MarginSource
from segpref.types import (
    IGNORE,
    LabelSpace,
    Margins,
    Miner,
    Objective,
    Pairs,
    SegprefError,
    Slate,
)

__all__ = ["PreferenceSignal", "PseudoLabelSignal", "ScoredBatch", "Signal"]


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Slates of a batch and what is said about them.

    Args:
        margins: by how much policy and reference prefer one mask to another.
        slates: one per image.
        scores: the judge's, ``[K, field]`` per image.
        truth: IoU of candidates with the ground truth, for figures only: ``truth(image, candidates)``
            is ``[candidate, field]``; None where there is no label.
        rngs: one generator per image.
        uncertainty: how unsure the judge is of each score, ``[K, field]`` per image, as one standard
            deviation; None if the judge does not report it.
        labels: the ground truth, all :data:`~segpref.types.IGNORE` for an image without; there for a
            signal that declares ``needs_label``.
        cases: ids of the images' cases, for a signal that reads or keeps records.
    """

    margins: MarginSource
    slates: Sequence[Slate]
    scores: Sequence[Float[np.ndarray, "K field"]]
    truth: Callable[[int, Sequence[int]], Float[np.ndarray, "n field"]] | None
    rngs: Sequence[np.random.Generator]
    uncertainty: Sequence[Float[np.ndarray, "K field"]] | None = None
    labels: UInt8[Tensor, "B field *space"] | None = None
    cases: Sequence[str] = ()

    @property
    def logits(self) -> Float[Tensor, "B C *space"]:
        """The policy's, with their graph; a SegprefError where it has none."""
        return self.margins.logits


class Signal(Protocol):
    """Turns a scored batch into a loss."""

    def __call__(self, batch: ScoredBatch) -> StepResult:
        """Sum of the batch's losses."""
        ...


@dataclass(frozen=True, slots=True)
class PreferenceSignal:
    """Pairs are mined from the scores, or read from records, and pulled apart: DPO and RN-DPO.

    Args:
        label_space: what the masks mean.
        miner: picks the pairs.
        objective: loss on margins.
        reduction: ``region`` is RN-DPO, ``image`` is DPO as usual.
        flip_rate: share of the mined pairs that are reversed at random. With 0.5 they are the same
            pairs and say nothing: a control that shows what the judge adds. (A judge whose order is
            turned round, :class:`~segpref.judges.NoisyJudge`, has other pairs: its top is a slate's
            worst, and worst masks lie elsewhere than best ones.)
        records: preference records about the slates' candidates: they give the pairs, in place of
            what the miner finds. The judge may be :class:`~segpref.preferences.AbstainingJudge` then.
        keep: keeps the mined pairs as records; None for nothing, which costs nothing.

    Raises:
        SegprefError: the flip rate is not from 0 to 1.
    """

    label_space: LabelSpace
    miner: Miner = field(default_factory=TopVsRandom)
    objective: Objective = field(default_factory=DPO)
    reduction: Reduction = "region"
    flip_rate: float = 0.0
    records: RecordedPairs | None = None
    keep: KeepPairs | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.flip_rate <= 1:
            raise SegprefError(f"a signal's flip_rate is from 0 to 1, not {self.flip_rate}")
        if self.records is not None:
            known = replace(self.records, objective=self.objective)
            object.__setattr__(self, "records", known)

    @property
    def needs_uncertainty(self) -> bool:
        """Whether the objective reads how unsure the judge is."""
        return bool(getattr(self.objective, "needs_uncertainty", False))

    @property
    def needs_round_slates(self) -> bool:
        """Whether it learns only from slates that are kept for a round: records are about these."""
        return self.records is not None

    def __call__(self, batch: ScoredBatch) -> StepResult:
        """Loss summed over the mined pairs, or over groups of them."""
        mined = self._mined(batch)
        pairs = _turned(mined.pairs, batch.rngs, self.flip_rate) if self.flip_rate else mined.pairs
        singles = bool(getattr(self.objective, "single_masks", False))
        region = disagreement(batch.slates, pairs, self.label_space, whole=singles)
        # Shares of the fields that were looked at: they add up over processes and updates.
        fields = float(mined.fields)
        logs: dict[str, tuple[Amount, Amount]]
        logs = {f"skipped_{why}": (float(n), fields) for why, n in mined.skipped.items()}
        images = len(batch.slates)
        logs["pairs_per_image"] = (float(len(region)), float(images))
        logs["images_with_pair"] = (float(len(set(pairs.case.tolist()))), float(images))
        margin = self._margins(batch, region) if len(region) else None
        objective = step_objective(self.objective, margin, region.pairs.case)
        if margin is None:
            return StepResult(batch.margins.zero(), 0, logs)
        losses = objective(grouped(margin))
        own = objective.of_own(losses.detach())
        # 1 or -1 where the winner is said to be better or worse, 0 of a tie: no figure is about these.
        said = _said(region.pairs)
        difference = margin.difference.detach() * _like(margin.difference, said)
        count = float(np.count_nonzero(said))
        logs["loss"] = (own.sum(), float(len(own)))
        logs["margin"] = (difference.sum(), count)
        logs["preference_accuracy"] = ((difference > 0).sum(), count)
        logs["disagreement"] = (float(region.fraction.sum()), float(len(region)))
        if batch.truth is not None:
            gaps = _true_gaps(region.pairs, batch.truth) * said
            strength = update_strength(margin, objective)
            harm = partial(harmful_update_mass, gaps, fraction=region.fraction.numpy())
            logs["pair_flip"] = (float((gaps < 0).sum()), count)
            every = float(len(region))
            plain = Derived(strength, lambda read: harm(strength=read).plain * every)
            weighted = Derived(strength, lambda read: harm(strength=read).weighted * every)
            logs["harmful_mass"] = (plain, every)
            logs["harmful_mass_fraction"] = (weighted, every)
        return StepResult(losses.sum(), len(own), logs)

    def _mined(self, batch: ScoredBatch) -> Mined:
        """The pairs before any is turned round, kept where that is asked for."""
        if self.records is not None:
            return self.records(batch.cases, batch.slates, self.label_space)
        mined = mine(self.miner, batch.scores, batch.rngs)
        # An idle process looks at an image that another has.
        if self.keep is not None and not runtime().idle:
            self.keep(mined.pairs, batch.cases, batch.slates, self.label_space)
        return mined

    def _margins(self, batch: ScoredBatch, region: Disagreement) -> Margins:
        """Margins with what the objective asks for besides, and no more."""
        margin = batch.margins(
            batch.slates,
            region,
            self.reduction,
            likelihood=getattr(self.objective, "needs_likelihood", False),
            reference_likelihood=getattr(self.objective, "needs_reference_likelihood", False),
        )
        if batch.uncertainty is not None:
            doubt = _like(margin.gap, _doubt(region.pairs, batch.uncertainty))
            margin = replace(margin, uncertainty=doubt)
        return margin


@dataclass(frozen=True, slots=True)
class PseudoLabelSignal:
    """The best candidate is taken for the truth: Top-1 pseudo-labelling (RN-DPO, Sec. 4.4).

    The judge's best candidate per field is a hard target of the supervised loss. Fields without
    information (all scores zero, tied or abstained) are ignored, as they give no pair either.

    Args:
        label_space: what the masks mean.
    """

    label_space: LabelSpace

    def __call__(self, batch: ScoredBatch) -> StepResult:
        """Supervised loss against the best candidates, times the number of images."""
        targets, used = [], 0
        for slate, scores in zip(batch.slates, batch.scores, strict=True):
            target = slate.masks[0].copy()
            for number in range(target.shape[0]):
                column = scores[:, number]
                if score_state(column) == "usable":
                    target[number] = slate.masks[int(np.nanargmax(column)), number]
                    used += 1
                else:
                    target[number] = IGNORE
            targets.append(target)
        images, logits = len(batch.slates), batch.logits
        if not step_total(used):
            return StepResult(batch.margins.zero(), 0, {})
        target = torch.from_numpy(np.stack(targets))
        loss = SupervisedLoss(self.label_space)(logits, target)
        logs = {"loss": (times(loss, images), float(images))}
        return StepResult(loss * images, images, logs)


def _turned(pairs: Pairs, rngs: Sequence[np.random.Generator], rate: float) -> Pairs:
    """Pairs of which each, or each group, has winner and loser exchanged with this probability."""
    turned = np.array([rngs[case].random() for case in pairs.case]) < rate
    if pairs.group is not None:
        _, first, place = np.unique(pairs.group, return_index=True, return_inverse=True)
        turned = turned[first][place]
    return replace(
        pairs,
        winner=np.where(turned, pairs.loser, pairs.winner),
        loser=np.where(turned, pairs.winner, pairs.loser),
    )


def _like(tensor: Tensor, values: np.ndarray) -> Tensor:
    """Values of the host in the type of a tensor, and where it is."""
    return moved(torch.from_numpy(values).to(tensor.dtype), tensor.device)


def _said(pairs: Pairs) -> Float[np.ndarray, " P"]:
    return np.ones(len(pairs)) if pairs.target is None else np.sign(2 * pairs.target - 1)


def _true_gaps(
    pairs: Pairs, truth: Callable[[int, Sequence[int]], np.ndarray]
) -> Float[np.ndarray, " P"]:
    gaps = np.empty(len(pairs))
    for image in np.unique(pairs.case):
        own = np.flatnonzero(pairs.case == image)
        both = np.stack([pairs.winner[own], pairs.loser[own]])
        # Of a candidate that several pairs name once.
        named, place = np.unique(both, return_inverse=True)
        better, worse = truth(int(image), named.tolist())[
            place.reshape(both.shape), pairs.field[own]
        ]
        gaps[own] = better - worse
    return gaps


def _doubt(
    pairs: Pairs, uncertainty: Sequence[Float[np.ndarray, "K field"]]
) -> Float[np.ndarray, " P"]:
    """Standard deviation of each score difference, errors of the two scores being independent."""
    rows = zip(pairs.case, pairs.field, pairs.winner, pairs.loser, strict=True)
    return np.array(
        [
            np.hypot(uncertainty[c][better, f], uncertainty[c][worse, f])
            for c, f, better, worse in rows
        ]
    )
