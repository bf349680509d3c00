"""Training a judge: a network that learns from labelled cases to predict the IoU of any mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from segpref.data.dataset import Dataset
from segpref.data.splits import refuse_leakage
from segpref.judges import RegressorJudge
from segpref.judges.regressor import regressor_input
from segpref.metrics import diagnose, iou, overlap_counts, slate_iou
from segpref.policies import (
    ModelCard,
    NetworkSpec,
    PolicySpec,
    TunablePolicy,
    load_model,
    read_card,
)
from segpref.policies.checkpoints import load_network
from segpref.proposals import SlateProposals
from segpref.runtime import step_sum, step_total
from segpref.seeds import derive_seed
from segpref.settings import setting
from segpref.training.augmenting import AugmentationName, augmentation, augmented_batch
from segpref.training.config import Optimizer, Schedule, TrainingConfig
from segpref.training.figures import times
from segpref.training.loop import StepResult
from segpref.training.trainer import History, Task, TrainingContext, TrainingPlan
from segpref.types import IGNORE, Case, Pairs, SegprefError, Slate

__all__ = ["Regressor", "RegressorConfig", "is_regressor", "load_regressor"]

_NETWORK = "monai.networks.nets.ResNet"


@dataclass(frozen=True, kw_only=True)
class RegressorConfig(TrainingConfig):
    """Training of an IoU regressor."""

    epochs: int = setting(100, least=1)
    batch_size: int = setting(4, least=1)
    learning_rate: float = setting(1e-3, least=0)
    schedule: Schedule = "cosine"
    optimizer: Optimizer = "adamw"
    weight_decay: float = setting(1e-4, least=0)

    candidates: int = setting(8, least=1)
    """How many of a slate are learned from at a visit, besides the truth."""

    width: int = setting(16, least=1)
    """Channels of the network's first stage; they double thrice."""

    augment: AugmentationName = "flips-rotations"
    """flips-rotations, photometric or none."""


@dataclass(frozen=True)
class Regressor(Task):
    """The IoU regressor of RN-DPO's judge ablation (Table 5).

    A residual network sees an image with a candidate's structures as further channels and predicts
    ``IoU(y(k), y*)`` of every structure; binary cross-entropy against the true IoU, whose minimum is
    the expected IoU. Candidates come from the slates of a policy on augmented images, drawn anew at
    every visit, and the truth is one of them, so that the network knows what is perfect. The paper
    does not describe its regressor; all this is ours. Unlabelled structures are left out.

    The checkpoint is chosen by what the judge is for: the true IoU of the candidates that it puts on
    top of the validation slates (``val_iou``); their Kendall rank correlation with the truth and the
    mean absolute error of the predicted IoU are reported beside it.

    Args:
        policy: model file or run folder whose slates are learned from; better not one that was
            trained on the same cases, whose masks are too good to learn much from.
        labelled: cases with labels.
        validation: chooses the checkpoint; its slates are held in memory.
        config: candidates, width and augmentation.
        proposals: make the slates; K = 16 by default.

    Raises:
        SegprefError: no labels to learn from or to validate on, or a patient in both.
    """

    policy: Path | str
    labelled: Dataset
    validation: Dataset
    config: RegressorConfig
    proposals: SlateProposals | None = None
    kind = title = "regressor"
    normalises = True

    def __post_init__(self) -> None:
        if self.config.compile:
            raise SegprefError("compile is for segmenters, not for a regressor: leave it out")
        if not len(self.labelled) or not len(self.validation):
            raise SegprefError(
                "a regressor needs labelled cases to learn from and labelled cases to be validated on: "
                "check the labels' folder and the split"
            )
        refuse_leakage(
            {
                "the regressor's labelled cases": self.labelled.patients,
                "the validation set": self.validation.patients,
            }
        )

    @property
    def images(self) -> int:
        """The labelled cases."""
        return len(self.labelled)

    @cached_property
    def card(self) -> ModelCard:  # type: ignore[override]
        """That of the policy, with a network of its own."""
        base = read_card(Path(self.policy))
        network = _network(base, self.config.width)
        return replace(base, network=network, labelled=self.labelled.patients, policy=PolicySpec())

    def network(self) -> nn.Module:
        """Random weights."""
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            return self.card.network.build()

    def leaves_weights_out(self, network: nn.Module) -> bool:
        """No: the last layer of a residual network hangs on all others."""
        return False

    def begin(self, context: TrainingContext) -> TrainingPlan:
        """Candidates of a policy and how good they are."""
        config, runtime, proposals = (
            self.config,
            context.runtime,
            self.proposals or SlateProposals(16),
        )
        segmenter, _ = load_model(self.policy)
        runtime.place(segmenter.network)
        judge = RegressorJudge(context.unwrapped, self.card.label_space)
        transforms = augmentation(config.augment, self.card.preparation.dims)
        examples = _ScoredMasks(
            segmenter, self.labelled, proposals, config.candidates, transforms, config.seed
        )

        def step(indices: list[int], epoch: int, number: int) -> StepResult:
            drawn = examples(indices, derive_seed(config.seed, epoch, number))
            inputs, target, known = map(runtime.move, drawn)
            context.network.train()
            logits = context.network(inputs).float()
            each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
            # Of the whole batch, whichever process an image falls to.
            value = (each * known).sum() / step_sum(known.sum()).clamp(min=1)
            images = step_total(len(indices))
            logs = {"train_loss": (times(value, images), float(len(indices)))}
            return StepResult(value * images, len(indices), logs)

        watched = _validation_slates(
            segmenter, self.validation, proposals, derive_seed(config.seed)
        )

        def judged(one: tuple[Case, Slate, np.ndarray]) -> np.ndarray:
            return judge.score(one[0], one[1])

        def validate() -> Mapping[str, float]:
            context.network.eval()
            return _figures(list(runtime.each(watched, judged)), watched)

        return TrainingPlan(step, validate)

    def summary(self, history: History) -> dict[str, Any]:
        """Who was learned from, and the best epoch's figures."""
        best = max(history[1:], key=lambda row: row["val_iou"])
        return {
            "labelled_cases": len(self.labelled),
            "labelled_patients": list(self.labelled.patients),
            "best_epoch": int(best["epoch"]),
            **{name: best[name] for name in ("val_iou", "val_kendall", "val_error")},
        }


def is_regressor(card: ModelCard) -> bool:
    """Whether a model file holds an IoU regressor and no segmenter."""
    return card.network.module == _NETWORK


def load_regressor(path: Path | str, batch_size: int = 16) -> RegressorJudge:
    """The judge of a regressor's file or run folder.

    Args:
        path: model file or run folder of :func:`fit_regressor`.
        batch_size: candidates per pass.

    Raises:
        SegprefError: the file holds no regressor.
    """
    path = Path(path)
    card = read_card(path)
    if not is_regressor(card):
        raise SegprefError(
            f"{path} holds a {card.network.module}, no IoU regressor: name the folder that the "
            "regressor was trained into"
        )
    network, card = load_network(path)
    return RegressorJudge(network, card.label_space, batch_size, card.labelled)


@dataclass(frozen=True, slots=True)
class _ScoredMasks:
    """Masks of labelled images and how good they are."""

    policy: TunablePolicy
    labelled: Dataset
    proposals: SlateProposals
    candidates: int
    transforms: Any
    seed: int

    def __call__(self, indices: list[int], key: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs ``[n, input, *space]``, true IoUs ``[n, structure]``, and which of them are known."""
        cases = [self.labelled[i] for i in indices]
        images, labels = augmented_batch(cases, self.transforms, key)
        slates = _slates(self.policy, self.proposals, images, cases, key)
        rows = zip(indices, images, labels.numpy(), slates, strict=True)
        parts = [self._scored_masks(*row, np.random.default_rng([key, row[0]])) for row in rows]
        inputs, targets, known = (torch.cat(part) for part in zip(*parts, strict=True))
        return inputs, targets, known

    def _scored_masks(
        self, _: int, image: Tensor, label: np.ndarray, slate: Slate, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        space = self.policy.label_space
        drawn = rng.choice(len(slate), min(self.candidates, len(slate)), replace=False)
        truth = np.where(label == IGNORE, np.uint8(0), label)
        masks = np.concatenate((truth[None], slate.masks[drawn]))
        target = torch.from_numpy(iou(overlap_counts(masks, label, space))).float()
        valid = torch.from_numpy((label != IGNORE).reshape(len(label), -1).any(axis=1)).float()
        return regressor_input(image, masks, space), target, valid.expand_as(target)


def _slates(
    policy: TunablePolicy,
    proposals: SlateProposals,
    images: Tensor,
    cases: Sequence[Case],
    key: int,
) -> list[Slate]:
    with torch.no_grad():
        state = policy.forward(images)
        return proposals(policy, state, images, cases, key)


def _validation_slates(
    policy: TunablePolicy, validation: Dataset, proposals: SlateProposals, key: int
) -> list[tuple[Case, Slate, np.ndarray]]:
    """Cases, their slates, and the true quality of every candidate."""
    found = []
    for case in validation:
        images = torch.from_numpy(np.array(case.image))[None]
        (slate,) = _slates(policy, proposals, images, [case], key)
        found.append(
            (case, slate, slate_iou(slate.masks, np.asarray(case.label), policy.label_space))
        )
    return found


def _figures(
    scores: Sequence[np.ndarray], watched: Sequence[tuple[Case, Slate, np.ndarray]]
) -> dict[str, float]:
    truths = [truth for _, _, truth in watched]
    none = np.zeros(0, np.int64)
    figures = diagnose(scores, truths, Pairs(none, none, none, none, np.zeros(0)))
    tops = [
        np.take_along_axis(truth, said.argmax(axis=0)[None], axis=0).mean()
        for said, truth in zip(scores, truths, strict=True)
    ]
    errors = [np.abs(said - truth).mean() for said, truth in zip(scores, truths, strict=True)]
    return {
        "val_iou": float(np.mean(tops)),
        "val_kendall": figures.kendall,
        "val_error": float(np.mean(errors)),
    }


def _network(card: ModelCard, width: int) -> NetworkSpec:
    """A residual network of four stages, at a quarter of the resolution after the first layer."""
    structures = len(card.label_space.structures)
    return NetworkSpec(
        _NETWORK,
        {
            "block": "basic",
            "layers": [1, 1, 1, 1],
            "block_inplanes": [width, 2 * width, 4 * width, 8 * width],
            "spatial_dims": card.preparation.dims,
            "n_input_channels": len(card.channels) + structures,
            "num_classes": structures,
            "conv1_t_size": 3,
            "conv1_t_stride": 2,
        },
    )
