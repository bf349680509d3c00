"""What every alignment is taught by, and how that becomes a step for policies with logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.patches import PatchDraw
from segpref.data.predictions import PredictionStore
from segpref.inference.evaluation import MeanLoss, mean_iou, score_model
from segpref.inference.windows import whole_images
from segpref.objectives.supervised import SupervisedLoss
from segpref.policies import ModelCard, TunablePolicy
from segpref.proposals import SlateProposals
from segpref.seeds import derive_seed
from segpref.training.augmentation import StrongAugmentation
from segpref.training.loop import Step
from segpref.training.rounds import PreferenceRounds, StandingPatches
from segpref.training.signals import Signal
from segpref.training.step import (
    DrawPatches,
    PreferenceStep,
    Reference,
    SlateSource,
    StepSlates,
)
from segpref.types import Case, Judge

__all__ = ["Course", "Teaching", "mask_course"]


class Course(NamedTuple):
    """What the loop runs.

    Args:
        step: from the images of a batch to the loss.
        figures: of the current weights, for validation.
    """

    step: Step
    figures: Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Teaching:
    """What an alignment learns from, whatever the policy.

    Args:
        pool: unlabelled images.
        validation: labelled cases.
        judge: scores candidates, prepared for the pool.
        signal: what is learned from scored slates.
        sets: folder of slates that stand for some epochs.
        refresh: for how many; None where the caller did not say.
        batch_size: images per update.
        seed: of order, slates and pairs.
    """

    pool: Dataset
    validation: Dataset
    judge: Judge
    signal: Signal
    sets: Path
    refresh: int | None
    batch_size: int
    seed: int

    @property
    def needs_label(self) -> bool:
        """Whether the signal learns from labels, too."""
        return bool(getattr(self.signal, "needs_label", False))

    @property
    def unsure(self) -> bool:
        """Whether the judge is asked how unsure it is."""
        return bool(getattr(self.signal, "needs_uncertainty", False))


def mask_course(
    policy: TunablePolicy,
    frozen: TunablePolicy,
    validated: TunablePolicy,
    teaching: Teaching,
    proposals: SlateProposals,
    card: ModelCard,
    *,
    reference_moves: bool,
    view: StrongAugmentation | None,
    cache: Cache,
) -> Course:
    """The course of a policy with logits: margins are linear in them (RN-DPO, Figure 1).

    Args:
        policy: what is tuned.
        frozen: its start.
        validated: what is validated: the policy, or the average of its weights.
        teaching: what it learns from.
        proposals: make the slates.
        card: of the start; tells how images are prepared and whether the model sees patches.
        reference_moves: whether every round begins with a reference of its own.
        view: changes the image that the update is made on.
        cache: where reference logits are kept.
    """
    pool, judge, seed = teaching.pool, teaching.judge, teaching.seed
    for model, images in ((policy, pool), (policy, teaching.validation), (frozen, pool)):
        model.prepare(images, cache)
    logits, draw = _reference_of(frozen, pool, card, cache)
    slates: SlateSource
    patches: DrawPatches | None = None
    if teaching.refresh is None:
        slates = StepSlates(policy, logits, judge, proposals, seed, teaching.unsure)
        patches = None if draw is None else partial(_drawn_anew, draw, seed)
    else:
        standing = (
            None if draw is None else StandingPatches(draw, len(pool), teaching.refresh, seed)
        )
        patches = standing
        slates = PreferenceRounds(
            policy,
            None if reference_moves else logits,
            pool,
            judge,
            proposals,
            teaching.sets,
            every=teaching.refresh,
            seed=seed,
            batch_size=teaching.batch_size,
            unsure=teaching.unsure,
            patches=standing,
        )
    step = PreferenceStep(policy, pool, slates, teaching.signal, seed, view, patches)
    whole = whole_images([validated], card.preparation)

    def figures() -> Mapping[str, float]:
        if not teaching.needs_label or patches is not None:
            return {"val_iou": mean_iou(score_model(whole, teaching.validation))}
        # What learns from labels shows its loss on others (MAPO, Fig. 2).
        loss = MeanLoss(SupervisedLoss(policy.label_space))
        scores = score_model(whole, teaching.validation, loss=loss)
        return {"val_iou": mean_iou(scores), "val_loss": loss.mean}

    return Course(step, figures)


def _reference_of(
    frozen: TunablePolicy, pool: Dataset, card: ModelCard, cache: Cache
) -> tuple[Reference, PatchDraw | None]:
    """Logits of the frozen start, and what draws patches where the model sees such."""
    in_patches = card.preparation.patch is not None
    stored = PredictionStore(
        whole_images([frozen], card.preparation), "places" if in_patches else "logits", cache
    )
    stored.prepare(pool)
    if not in_patches:
        return stored.batch, None
    # Windows that overlap have other logits than a patch alone: the reference sees the very patch.
    draw = PatchDraw(card.preparation, stored.__getitem__, mirroring=card.mirroring)
    return partial(_passed, frozen), draw


def _drawn_anew(
    draw: PatchDraw,
    seed: int,
    cases: Sequence[Case],
    indices: Sequence[int],
    epoch: int,
    number: int,
) -> list[Case]:
    return draw(cases, indices, derive_seed(seed, epoch, number))


def _passed(frozen: TunablePolicy, _: Sequence[Case], images: Tensor) -> Tensor:
    return frozen.logits(images).float()
