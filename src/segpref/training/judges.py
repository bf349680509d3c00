"""Training a judge: a network that learns from labelled cases to predict the IoU of any mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch import Tensor
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
from segpref.runtime import Runtime
from segpref.seeds import derive_seed
from segpref.training.augmentation import AugmentationName, augmentation, augmented_batch
from segpref.training.folder import RunFolder
from segpref.training.loop import (
    StepResult,
    batch_stream,
    cosine,
    run_loop,
)
from segpref.types import IGNORE, Case, Pairs, SegprefError, Slate

__all__ = ["fit_regressor", "is_regressor", "load_regressor"]

_NETWORK = "monai.networks.nets.ResNet"


def fit_regressor(
    policy: Path | str,
    labelled: Dataset,
    validation: Dataset,
    folder: RunFolder,
    *,
    proposals: SlateProposals | None = None,
    candidates: int = 8,
    width: int = 16,
    epochs: int = 100,
    images_per_epoch: int | None = None,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    augment: AugmentationName = "flips-rotations",
    seed: int = 0,
    precision: str = "no",
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Train the IoU regressor of RN-DPO's judge ablation (Table 5).

    A residual network sees an image with a candidate's structures as further channels and predicts
    ``IoU(y(k), y*)`` of every structure; binary cross-entropy against the true IoU, whose minimum is
    the expected IoU. Candidates come from the slates of a policy on augmented images, drawn anew at
    every visit, and the truth is one of them, so that the network knows what is perfect. The paper
    does not describe its regressor; all this is ours. Structures that nobody labelled are left out.

    The checkpoint is chosen by what the judge is for: the true IoU of the candidates that it puts on
    top of the validation slates (``val_iou``); their Kendall rank correlation with the truth and the
    mean absolute error of the predicted IoU are reported beside it.

    Args:
        policy: model file or run folder whose slates are learned from; better not one that was
            trained on the same cases, whose masks are too good to learn much from.
        labelled: cases with labels.
        validation: chooses the checkpoint; its slates are held in memory.
        folder: where the run goes, opened.
        proposals: make the slates; K = 16 by default.
        candidates: how many of a slate are learned from at a visit, besides the truth.
        width: channels of the network's first stage; they double thrice.
        epochs: number of epochs.
        images_per_epoch: images in an epoch, drawn without repeats until all were seen.
        batch_size: images per update.
        learning_rate: highest learning rate of AdamW, cosine schedule with warm-up.
        weight_decay: of AdamW.
        augment: see :func:`~segpref.training.augmentation.augmentation`.
        seed: of weights, order, augmentation and slates.
        precision: ``no``, ``bf16`` or ``fp16``, as in Accelerate.
        checkpoint_seconds: how often the position is saved (seconds).

    Returns:
        The run's summary.
    """
    segmenter, base_card = load_model(policy)
    labelled, validation = labelled.labelled(), validation.labelled()
    if not len(labelled) or not len(validation):
        raise SegprefError(
            "a regressor needs labelled cases to learn from and labelled cases to be validated on: "
            "check the labels' folder and the split"
        )
    refuse_leakage(
        {
            "the regressor's labelled cases": labelled.patients,
            "the validation set": validation.patients,
        }
    )
    if folder.finished:
        return folder.read_summary()
    card = replace(
        base_card,
        network=_network(base_card, width),
        labelled=labelled.patients,
        policy=PolicySpec(),
    )
    runtime = Runtime(precision)
    segmenter.network.to(runtime.device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = card.network.build().to(runtime.device)
    judge = RegressorJudge(network, card.label_space)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
    wrapped, prepared = runtime.learning(network, optimizer)
    proposals = proposals or SlateProposals(16)
    lessons = _Lessons(
        segmenter,
        labelled,
        proposals,
        candidates,
        augmentation(augment, card.preparation.dims),
        seed,
    )

    def step(indices: list[int], epoch: int, number: int) -> StepResult:
        inputs, target, known = (
            part.to(runtime.device) for part in lessons(indices, derive_seed(seed, epoch, number))
        )
        wrapped.train()
        logits = wrapped(inputs).float()
        each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        value = (each * known).sum() / known.sum().clamp(min=1)
        count = len(indices)
        logs = {"train_loss": (float(value.detach()) * count, float(count))}
        return StepResult(value * count, count, logs)

    watched = _validation_slates(segmenter, validation, proposals, derive_seed(seed))

    def validate() -> Mapping[str, float]:
        wrapped.eval()
        return _figures(judge, watched)

    history = run_loop(
        folder=folder,
        network=network,
        card=card,
        optimizer=prepared,
        learning_rate=cosine(learning_rate),
        epochs=epochs,
        batches=batch_stream(len(labelled), images_per_epoch, batch_size, seed),
        step=step,
        validate=validate,
        runtime=runtime,
        description="regressor",
        checkpoint_seconds=checkpoint_seconds,
    )
    best = max(history[1:], key=lambda row: row["val_iou"])
    summary = {
        "kind": "regressor",
        "seed": seed,
        "labelled_cases": len(labelled),
        "labelled_patients": list(labelled.patients),
        "best_epoch": int(best["epoch"]),
        **{name: best[name] for name in ("val_iou", "val_kendall", "val_error")},
    }
    if runtime.first:
        folder.write_summary(summary)
    return summary


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
class _Lessons:
    """Masks of labelled images and how good they are."""

    policy: TunablePolicy
    labelled: Dataset
    proposals: SlateProposals
    candidates: int
    transforms: Compose | None
    seed: int

    def __call__(self, indices: list[int], key: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs ``[n, input, *space]``, true IoUs ``[n, structure]``, and which of them are known."""
        cases = [self.labelled[i] for i in indices]
        images, labels = augmented_batch(cases, self.transforms, key)
        slates = _slates(self.policy, self.proposals, images, cases, key)
        rows = zip(indices, images, labels.numpy(), slates, strict=True)
        parts = [self._lesson(*row, np.random.default_rng([key, row[0]])) for row in rows]
        inputs, targets, known = (torch.cat(part) for part in zip(*parts, strict=True))
        return inputs, targets, known

    def _lesson(
        self, _: int, image: Tensor, label: np.ndarray, slate: Slate, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        space = self.policy.label_space
        drawn = rng.choice(len(slate), min(self.candidates, len(slate)), replace=False)
        truth = np.where(label == IGNORE, np.uint8(0), label)
        masks = np.concatenate((truth[None], slate.masks[drawn]))
        target = torch.from_numpy(iou(overlap_counts(masks, label, space))).float()
        told = torch.from_numpy((label != IGNORE).reshape(len(label), -1).any(axis=1)).float()
        return regressor_input(image, masks, space), target, told.expand_as(target)


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
    judge: RegressorJudge, watched: Sequence[tuple[Case, Slate, np.ndarray]]
) -> dict[str, float]:
    scores = [judge.score(case, slate) for case, slate, _ in watched]
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
