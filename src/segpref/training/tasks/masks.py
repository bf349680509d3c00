"""Preferences between masks, for policies with logits: margins are linear in them (RN-DPO, Fig. 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segpref.data.cache import Cache
from segpref.data.compact_logits import LogitFormat
from segpref.data.dataset import Dataset
from segpref.data.patches import PatchDraw
from segpref.data.predictions import PredictionStore
from segpref.inference.evaluation import MeanLoss, mean_iou, score_model
from segpref.inference.windows import whole_images
from segpref.objectives.supervised import SupervisedLoss
from segpref.policies import ModelCard, TunablePolicy, load_policy
from segpref.preferences import RoundPatches, Scoring, SlateWorkers, WholeSlates
from segpref.proposals import SlateProposals
from segpref.runtime import proposal_precision, runtime
from segpref.seeds import derive_seed
from segpref.training.ahead import SlatesAhead
from segpref.training.anchored import records_of
from segpref.training.config import AlignConfig
from segpref.training.image_sizes import leaves_out
from segpref.training.loop import following_steps
from segpref.training.rounds import PreferenceRounds
from segpref.training.standing import StandingPatches
from segpref.training.step import (
    DrawPatches,
    PreferenceStep,
    Reference,
    SlateSource,
    StepSlates,
)
from segpref.training.tasks.preference import PreferenceTask
from segpref.training.trainer import TrainingContext, TrainingPlan
from segpref.types import Case, SegprefError

__all__ = ["MaskPreferences"]


@dataclass(frozen=True)
class MaskPreferences(PreferenceTask[TunablePolicy]):
    """Preferences between masks that are edited from the policy's own prediction.

    Where the model sees patches, a step is about one patch of each image: slate, scores, region and
    Omega are the patch's, and the reference sees the same patch. It is drawn anew at every step; with
    ``refresh`` a few of each image are kept for a round, and its epochs take them in turn. Votes are
    about whole masks, of which the patch holds a part.
    Validation is by windows that slide over whole images.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        proposals = self.inputs.proposals
        if proposals is not None and not isinstance(proposals, SlateProposals):
            raise SegprefError(
                "only a diffusion model's candidates are samples, and the base is none: give "
                "SlateProposals"
            )
        if self.config.reference_logits != "float32":
            self._check_kept()
        if self.inputs.needs_round_slates and self.config.refresh is None:
            raise SegprefError(
                "preference records refer to slates that are kept, and these would be made again "
                "at every step:"
                " give refresh, in epochs"
            )

    def _check_kept(self) -> None:
        votes = records_of(self.inputs.signal) is not None and WholeSlates.there(self.inputs.sets)
        if votes or self.card.preparation.patch is not None:
            raise SegprefError(
                "reference_logits has no effect with votes or on a model that sees patches, for which "
                "the base's logits are always recomputed: leave it out"
            )

    @classmethod
    def ahead(
        cls, base: Path | str, config: AlignConfig, cache: Cache
    ) -> Callable[[Dataset, bool], None]:
        """Predictions of the reference, and what frozen parts of the base say of a volume."""
        opened: tuple[Any, ModelCard] = load_policy(base)
        frozen, card = opened
        runtime().place(frozen.network).requires_grad_(False)
        patches = card.preparation.patch is not None
        kept: PredictionStore | None = None
        if patches or config.reference == "base":
            kept = _kept_of(frozen, card, cache, config.reference_logits)

        def predict(volume: Dataset, drawn: bool) -> None:
            frozen.prepare(volume, cache)
            # Patches are drawn for slates, and logits are asked for by a step alone.
            if kept is not None and (drawn or patches):
                kept.prepare(volume)  # which predicts the first

        return predict

    def leaves_weights_out(self, network: nn.Module) -> bool:
        """As the policy says of an image."""
        shape = self.card.preparation.patch or self.inputs.pool[0].image.shape[1:]
        image = torch.zeros(1, len(self.card.channels), *shape, device=self.policy.device)
        return leaves_out(self.policy, image)

    def plan(self, context: TrainingContext, validated: TunablePolicy) -> TrainingPlan:
        """Figure 1: one pass, its slates and scores, pairs, margins on the regions."""
        inputs, config, policy, frozen = self.inputs, self.config, self.policy, self.reference
        context.runtime.place(frozen.network).requires_grad_(False)
        pool, judge, seed = inputs.pool, inputs.judge, config.seed
        families: Any = (
            config.families
        )  # jsonargparse takes a list of classes by name for callables
        proposals = inputs.proposals or SlateProposals(config.candidates, families)
        proposals.prepare(pool)
        cache = inputs.cache or Cache()
        for model, images in ((policy, pool), (policy, inputs.validation), (frozen, pool)):
            model.prepare(images, cache)
        lower = proposal_precision(config.proposal_precision, config.precision)
        slates: SlateSource
        patches: DrawPatches | None = None
        records = records_of(inputs.signal)
        if records is not None and WholeSlates.there(inputs.sets):
            form, axes = self.card.preparation, self.card.mirroring
            sets = WholeSlates(inputs.sets)
            slates = standing = StandingPatches(partial(_passed, frozen), sets, pool, records)
            patches = partial(_drawn_anew, PatchDraw(form, standing.places, mirroring=axes), seed)
            step = PreferenceStep(policy, pool, slates, self.signal, seed, config.view, patches)
            return TrainingPlan(step, partial(self._validated, validated, True), config.refresh)
        logits, draw = _reference_of(frozen, pool, self.card, cache, config.reference_logits)
        if config.refresh is None:
            patches = None if draw is None else partial(_drawn_anew, draw, seed)
            workers = SlateWorkers(proposals, Scoring(judge, inputs.unsure), config.workers)
            context.closing.enter_context(workers)
            own = StepSlates(policy, logits, judge, proposals, seed, inputs.unsure, workers, lower)
            slates = self._ahead(context, own, patches) if config.slates_ahead else own
        else:
            round_patches = (
                None if draw is None else RoundPatches(draw, len(pool), config.refresh, seed)
            )
            patches = round_patches
            slates = PreferenceRounds(
                policy,
                None if config.reference == "round" else logits,
                pool,
                judge,
                proposals,
                inputs.sets,
                every=config.refresh,
                seed=seed,
                batch_size=config.batch_size,
                unsure=inputs.unsure,
                patches=round_patches,
                workers=config.workers,
                precision=lower,
            )
        step = PreferenceStep(policy, pool, slates, self.signal, seed, config.view, patches)
        validate = partial(self._validated, validated, patches is not None)
        return TrainingPlan(step, validate, config.refresh)

    def _ahead(
        self, context: TrainingContext, slates: StepSlates, patches: DrawPatches | None
    ) -> SlatesAhead:
        following = following_steps(context.batches, self.config.epochs, context.runtime)
        before = context.kept["before"]
        # In the precision of the network that it follows; its state keeps the names.
        context.runtime.frozen(before)
        pool = self.inputs.pool
        return SlatesAhead(slates, self.policy, context.unwrapped, before, pool, patches, following)

    def _validated(self, validated: TunablePolicy, in_patches: bool) -> Mapping[str, float]:
        whole = whole_images([validated], self.card.preparation)
        if not self.inputs.needs_label or in_patches:
            return {"val_iou": mean_iou(score_model(whole, self.inputs.validation))}
        # What learns from labels shows its loss on others (MAPO, Fig. 2).
        loss = MeanLoss(SupervisedLoss(self.policy.label_space))
        scores = score_model(whole, self.inputs.validation, loss=loss)
        return {"val_iou": mean_iou(scores), "val_loss": loss.mean}


def _reference_of(
    frozen: TunablePolicy,
    pool: Dataset,
    card: ModelCard,
    cache: Cache,
    kept_as: LogitFormat | Literal["recomputed"],
) -> tuple[Reference, PatchDraw | None]:
    """Logits of the frozen start, and what draws patches where the model sees such."""
    kept = _kept_of(frozen, card, cache, kept_as)
    if kept is None:
        return partial(_passed, frozen), None
    kept.prepare(pool)
    if card.preparation.patch is None:
        return kept.batch, None
    # Windows that overlap have other logits than a patch alone: the reference sees the same patch.
    draw = PatchDraw(card.preparation, kept.__getitem__, mirroring=card.mirroring)
    return partial(_passed, frozen), draw


def _kept_of(
    frozen: TunablePolicy,
    card: ModelCard,
    cache: Cache,
    kept_as: LogitFormat | Literal["recomputed"],
) -> PredictionStore | None:
    """Logits, or the places that patches are drawn around; None where logits are recomputed."""
    whole = whole_images([frozen], card.preparation)
    if card.preparation.patch is not None:
        return PredictionStore(whole, "places", cache)
    if kept_as == "recomputed":
        return None
    return PredictionStore(whole, "logits", cache, kept_as=kept_as)


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
