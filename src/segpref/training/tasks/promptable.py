"""Stage 1 of a promptable model: box, points and text together (Konwer et al., 2025, Sec. 3.1, 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.splits import refuse_leakage
from segpref.inference.evaluation import mean_iou, score_model
from segpref.objectives.focal_dice import FocalDiceLoss, quality_loss
from segpref.policies import ModelCard
from segpref.policies.promptable import PARTS, GuidedPolicy, Part, PromptableNetwork, guided
from segpref.prompts import ExpertPrompts, LabelPrompts, Prompts, turned, turned_prompt
from segpref.runtime import moved
from segpref.seeds import derive_seed
from segpref.settings import setting
from segpref.training.config import Optimizer, Schedule, TrainingConfig
from segpref.training.loop import StepResult
from segpref.training.tasks.supervised import best_epoch, check_labelled
from segpref.training.trainer import History, Task, TrainingContext, TrainingPlan
from segpref.training.validation import validation_of
from segpref.types import Case

__all__ = ["Promptable", "PromptableConfig"]


@dataclass(frozen=True, kw_only=True)
class PromptableConfig(TrainingConfig):
    """Stage 1 of a promptable model: Adam, halved every 10 epochs (Konwer et al., 2025)."""

    schedule: Schedule = "halved"
    optimizer: Optimizer = "adam"

    parts: tuple[Part, ...] = PARTS
    """Which parts of the network learn: encoder, prompts, decoder. All in the paper."""

    focal: float = setting(20.0, least=0)
    """Weight of the focal loss beside Dice."""

    quality_weight: float = setting(1.0, least=0)
    """Weight of the squared error of the predicted IoU; 0 for none, as in the paper's text."""

    augment: Literal["none", "dihedral"] = "none"
    """none, or dihedral: quarter turns (of square images) and flips, prompts and all. It makes right
    and left meaningless: do without it where a text names a side."""


@dataclass(frozen=True)
class Promptable(Task):
    """A promptable model from labelled cases, with the prompts that it will have.

    ``20 focal + 1 Dice`` as a mean over the iterations, of which the second is given the first one's
    mask. SAM's own recipe has a loss on the predicted IoU besides, which the paper does not name; it is
    kept, for that prediction is a judge.

    Args:
        labelled: cases with labels of independent structures.
        validation: chooses the checkpoint.
        model: what is trained, in place.
        card: what the model file will say, and who makes the prompts
            (:func:`~segpref.policies.promptable.promptable_card`).
        config: which parts learn, losses and augmentation.
        guide: draws the prompts from the labels in place of the card's prompter, anew at every step,
            and validates with such prompts: how a checkpoint learns to follow boxes and points.
        cache: where image embeddings are kept while the encoder is frozen.

    Raises:
        SegprefError: no labels, nothing to validate on, a patient in both, or a card of another kind.
    """

    labelled: Dataset
    validation: Dataset
    model: PromptableNetwork
    card: ModelCard
    config: PromptableConfig
    guide: LabelPrompts | None = None
    cache: Cache | None = None
    kind = "fit-promptable"
    title = "stage 1"

    def __post_init__(self) -> None:
        check_labelled(self.labelled, self.validation)
        refuse_leakage(
            {
                "the labelled cases": self.labelled.patients,
                "the validation set": self.validation.patients,
            }
        )

    @property
    def images(self) -> int:
        """The labelled cases."""
        return len(self.labelled)

    def network(self) -> nn.Module:
        """The model, of which some parts learn."""
        guided(self.card.policy_of(self.model)).learn(self.config.parts)
        return self.model

    def begin(self, context: TrainingContext) -> TrainingPlan:
        """Masks of all iterations against the labels."""
        config, guide = self.config, self.guide
        policy = guided(self.card.policy_of(self.model))
        policy.learn(config.parts)
        policy.network, judged = context.network, policy
        if guide is not None:
            texts_of = policy.prompter if policy.takes_text else None
            judged = policy.asked_by(ExpertPrompts(texts_of=texts_of))
        judged.prepare(self.validation, self.cache)
        policy.prepare(self.labelled, self.cache)
        measure = FocalDiceLoss(focal=config.focal)

        def step(indices: list[int], epoch: int, number: int) -> StepResult:
            cases = [self.labelled[i] for i in indices]
            key = derive_seed(config.seed, epoch, number)
            rngs = [np.random.default_rng([key, i]) for i in indices]
            images, targets, prompts = _batch(cases, rngs, policy, guide, config.augment)
            state = policy.forward(images, prompts, every=True)
            targets = moved(targets, state.logits.device)
            total = state.logits.new_zeros(())
            for logits, quality in zip(state.iterations, state.qualities, strict=True):
                each = measure(logits, targets)
                if config.quality_weight:
                    each = each + config.quality_weight * quality_loss(quality, logits, targets)
                total = total + each.mean(dim=1).sum() / len(state.iterations)
            logs = {"train_loss": (total.detach(), float(len(cases)))}
            return StepResult(total, len(cases), logs)

        def validate() -> Mapping[str, float]:
            return {"val_iou": mean_iou(score_model(judged, self.validation))}

        form = self.card.preparation
        return TrainingPlan(step, validation_of(judged, self.validation, form, validate))

    def summary(self, history: History) -> dict[str, Any]:
        """Who was learned from, which parts, and the best epoch."""
        return {
            "labelled_cases": len(self.labelled),
            "labelled_patients": list(self.labelled.patients),
            "trained_parts": list(self.config.parts),
            **best_epoch(history),
        }


def _batch(
    cases: Sequence[Case],
    rngs: Sequence[np.random.Generator],
    policy: GuidedPolicy,
    guide: LabelPrompts | None,
    augment: Literal["none", "dihedral"],
) -> tuple[torch.Tensor, torch.Tensor, Prompts]:
    """Images, targets and prompts of a step."""
    pictures = [np.array(case.image) for case in cases]
    labels = [np.array(case.label) for case in cases]
    prompts: Prompts
    if guide is None:
        prompts = policy.prompts_for(torch.from_numpy(np.stack(pictures)))
    else:
        texts = _texts(policy, pictures)
        drawn = zip(labels, rngs, texts, strict=True)
        prompts = [guide(label, rng, text) for label, rng, text in drawn]
    if augment == "dihedral":
        shape = pictures[0].shape[1:]
        square = shape[0] == shape[1]
        moves = [(int(rng.integers(4 if square else 2)), bool(rng.integers(2))) for rng in rngs]
        moves = [(quarters if square else 2 * quarters, flip) for quarters, flip in moves]
        pictures = [turned(p, *move) for p, move in zip(pictures, moves, strict=True)]
        labels = [turned(label, *move) for label, move in zip(labels, moves, strict=True)]
        prompts = [
            [turned_prompt(prompt, shape, *move) for prompt in row]
            for row, move in zip(prompts, moves, strict=True)
        ]
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(labels)), prompts


def _texts(
    policy: GuidedPolicy, pictures: Sequence[np.ndarray]
) -> list[tuple[str | None, ...] | None]:
    """The texts that the policy's own prompts have, for prompts that are drawn from labels."""
    if not policy.takes_text:
        return [None] * len(pictures)
    own = policy.prompts_for(torch.from_numpy(np.stack(pictures)))
    return [tuple(prompt.text for prompt in row) for row in own]
