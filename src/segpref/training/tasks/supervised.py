"""Stage 1: a base (or a judge) from a few labelled cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segpref.data.dataset import Dataset
from segpref.data.patches import LabelPlaces, PatchDraw
from segpref.inference.evaluation import mean_iou, score_model
from segpref.inference.windows import whole_images
from segpref.networks import InjectedDropout, dropout_places
from segpref.networks.seeded_dropout import DropoutPlace
from segpref.objectives.supervised import supervised_loss
from segpref.policies import ModelCard
from segpref.seeds import derive_seed, image_seeds
from segpref.training.augmenting import augmentation, augmented_batch
from segpref.training.config import FitConfig
from segpref.training.figures import times
from segpref.training.image_sizes import explain_image_size, leaves_out
from segpref.training.loop import StepResult
from segpref.training.start import first_network
from segpref.training.trainer import History, Task, TrainingContext, TrainingPlan
from segpref.training.validation import validation_of
from segpref.types import SegprefError

__all__ = ["Supervised", "best_epoch", "check_labelled"]


@dataclass(frozen=True)
class Supervised(Task):
    """A segmenter from labelled cases; the best validation checkpoint is the reference of stage 2.

    Where the preparation has a patch, a step sees one patch of each image, often around a structure.

    Args:
        labelled: cases with labels.
        validation: chooses the checkpoint.
        card: what the model file will say; names the network.
        config: augmentation, dropout and loss.
        start: model file or run folder to go on from; random weights where None.

    Raises:
        SegprefError: no case with a label, or none to validate on.
    """

    labelled: Dataset
    validation: Dataset
    card: ModelCard
    config: FitConfig
    start: Path | None = None
    kind = "fit"
    title = "stage 1"
    normalises = True

    def __post_init__(self) -> None:
        check_labelled(self.labelled, self.validation)

    @property
    def images(self) -> int:
        """The labelled cases."""
        return len(self.labelled)

    def network(self) -> nn.Module:
        """That of the start, or random weights."""
        return first_network(self.card, self.start, self.config.seed)

    def leaves_weights_out(self, network: nn.Module) -> bool:
        """As the policy says of an image."""
        return leaves_out(self.card.policy_of(network), self._first_image(network))

    def dropout(self, network: nn.Module) -> Sequence[DropoutPlace]:
        """Behind every block where a rate is asked for, else the network's own layers."""
        if not self.config.dropout:
            return dropout_places(network)
        image = self._first_image(network)
        with explain_image_size(image, network):
            return InjectedDropout(network, image).places(self.config.dropout)

    def begin(self, context: TrainingContext) -> TrainingPlan:
        """A batch of augmented images, one pass, the loss against their labels."""
        config, card = self.config, self.card
        model = card.policy_of(context.unwrapped)
        whole = whole_images([model], card.preparation)
        transforms = augmentation(config.augment, card.preparation.dims)
        patches, measure = self._patches, supervised_loss(card.label_space, config.loss)

        def step(indices: list[int], epoch: int, number: int) -> StepResult:
            cases = [self.labelled[i] for i in indices]
            key = derive_seed(config.seed, epoch, number)
            if patches is not None:
                cases = patches(cases, indices, key)
            images, labels = augmented_batch(cases, transforms, key)
            images = context.runtime.move(images)  # the loss moves the labels
            context.network.train()
            context.dropout.seeds = image_seeds([case.id for case in cases], key)
            # Layers of another kind than dropout that draw do so from the global state.
            with torch.random.fork_rng(), explain_image_size(images, context.unwrapped):
                torch.manual_seed(key)
                logits = context.network(images)
            value = measure(logits[0] if isinstance(logits, list | tuple) else logits, labels)
            count = len(cases)
            return StepResult(value * count, count, {"train_loss": (times(value, count), count)})

        def validate() -> dict[str, float]:
            context.network.eval()
            return {"val_iou": mean_iou(score_model(whole, self.validation))}

        return TrainingPlan(step, validation_of(model, self.validation, card.preparation, validate))

    def summary(self, history: History) -> dict[str, Any]:
        """Who was learned from, and the best epoch."""
        return {
            "labelled_cases": len(self.labelled),
            "labelled_patients": list(self.labelled.patients),
            **best_epoch(history),
        }

    def _first_image(self, network: nn.Module) -> Tensor:
        first = self.labelled[0]
        if self._patches is not None:
            (first,) = self._patches([first], [0], self.config.seed)
        image = torch.from_numpy(np.array(first.image))[None]
        return image.to(next(network.parameters()).device)

    @property
    def _patches(self) -> PatchDraw | None:
        card = self.card
        if card.preparation.patch is None:
            return None
        places = LabelPlaces(card.label_space)
        return PatchDraw(card.preparation, places, mirroring=card.mirroring)


def best_epoch(history: History) -> dict[str, Any]:
    """The epoch with the best validation IoU, and that IoU."""
    curve = np.array([row["val_iou"] for row in history[1:]])
    return {"best_epoch": int(curve.argmax()) + 1, "val_iou": float(curve.max())}


def check_labelled(labelled: Dataset, validation: Dataset) -> None:
    """Refuse to train without labels or without cases to validate on.

    Raises:
        SegprefError: there are none.
    """
    if not len(labelled):
        raise SegprefError("none of the cases to train on has a label: check the labels' folder")
    if not len(validation):
        raise SegprefError("there is no validation image: give validation patients in the split")
