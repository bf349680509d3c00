"""Semi-supervised training on labelled cases and unlabelled images, without a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from segpref.data.dataset import Dataset
from segpref.data.splits import refuse_leakage
from segpref.inference.evaluation import mean_iou, score_model
from segpref.networks import dropout_places
from segpref.networks.seeded_dropout import DropoutPlace
from segpref.policies import ModelCard
from segpref.seeds import derive_seed, generators, image_seeds
from segpref.training.augmenting import augmentation, augmented_batch
from segpref.training.averaging import averaged
from segpref.training.config import FitConfig
from segpref.training.curves import curve_summary
from segpref.training.figures import times
from segpref.training.image_sizes import leaves_out
from segpref.training.loop import StepResult, batch_stream
from segpref.training.semisupervised.method import Method, StepBatch
from segpref.training.semisupervised.student import Student
from segpref.training.start import first_network
from segpref.training.tasks.supervised import best_epoch, check_labelled
from segpref.training.trainer import History, Task, TrainingContext, TrainingPlan
from segpref.training.validation import validation_of
from segpref.types import Case, SegprefError

__all__ = ["SemiSupervised"]


@dataclass(frozen=True)
class SemiSupervised(Task):
    """A segmenter from labelled cases and unlabelled images together.

    Network, weak augmentation, supervised loss and optimiser are those of supervised training, so that
    what differs is the unlabelled images. Every step takes ``batch_size`` labelled and as many
    unlabelled ones. The teacher is what is validated and saved; with a decay of 0 it is the student.

    Args:
        labelled: cases with labels.
        unlabelled: images of other patients, without their labels.
        validation: chooses the checkpoint.
        card: what the model file will say; names the network.
        config: its ``method`` says what is learned from the unlabelled images.
        start: model file or run folder to go on from; random weights where None.

    Raises:
        SegprefError: a set is empty or shares a patient with another.
    """

    labelled: Dataset
    unlabelled: Dataset
    validation: Dataset
    card: ModelCard
    config: FitConfig
    start: Path | None = None
    kind = "semisupervised"
    title = "stage 1, semi-supervised"
    normalises = True

    def __post_init__(self) -> None:
        check_labelled(self.labelled, self.validation)
        if not len(self.unlabelled):
            raise SegprefError(
                "there is no unlabelled image: check which patients the split leaves"
            )
        refuse_leakage(
            {
                "the labelled cases": sorted({*self.card.labelled, *self.labelled.patients}),
                "the unlabelled images": self.unlabelled.patients,
                "the validation set": self.validation.patients,
            }
        )

    @property
    def method(self) -> Method:
        """What is learned from the unlabelled images."""
        assert self.config.method is not None
        return self.config.method

    @property
    def images(self) -> int:
        """The unlabelled images."""
        return len(self.unlabelled)

    def network(self) -> nn.Module:
        """That of the start, or random weights."""
        return first_network(self.card, self.start, self.config.seed)

    def average(self, network: nn.Module) -> AveragedModel:
        """The teacher."""
        return averaged(network, self.method.decay)

    def leaves_weights_out(self, network: nn.Module) -> bool:
        """As the policy says of an image."""
        image = torch.from_numpy(np.array(self.labelled[0].image))[None]
        image = image.to(next(network.parameters()).device)
        return leaves_out(self.card.policy_of(network), image)

    def dropout(self, network: nn.Module) -> Sequence[DropoutPlace]:
        """The network's own layers."""
        return dropout_places(network)

    def begin(self, context: TrainingContext) -> TrainingPlan:
        """Labelled and unlabelled images, weakly augmented, to the method."""
        config, card, runtime = self.config, self.card, context.runtime
        student, model = (
            Student(context.network, context.dropout),
            card.policy_of(context.validated),
        )
        transforms = augmentation(config.augment, card.preparation.dims)
        per_epoch = config.images_per_epoch or len(self.unlabelled)
        labelled_batches = batch_stream(
            len(self.labelled), per_epoch, config.batch_size, config.seed
        )
        steps = -(-per_epoch // config.batch_size)

        def teacher(images: Tensor) -> Tensor:
            with runtime.autocast():
                return model.logits(images).float()

        def step(indices: list[int], epoch: int, number: int) -> StepResult:
            places = labelled_batches(epoch)[number]
            known = [self.labelled[i] for i in runtime.shared(places) or places[:1]]
            free = [self.unlabelled[i] for i in indices]
            key = derive_seed(config.seed, epoch, number)
            images, labels = augmented_batch(known, transforms, key)
            others = _augmented_images(free, transforms, derive_seed(config.seed, epoch, number, 1))
            shown = map(runtime.move, (images, labels, others))
            batch = StepBatch(next(shown), next(shown), next(shown), card.label_space)
            progress = (epoch * steps + number) / (config.epochs * steps)
            names = [case.id for case in free]
            student.shown([case.id for case in known], names, key)
            rngs = generators(image_seeds(names, config.seed, epoch, number, 2))
            with torch.random.fork_rng():
                torch.manual_seed(key)
                loss = self.method.loss(student, teacher, batch, progress, rngs)
            figures: dict[str, float | Tensor] = {
                "train_loss": loss.supervised,
                "unsupervised_loss": loss.unsupervised,
                "unsupervised_weight": loss.weight,
                **loss.figures,
            }
            count = len(indices)
            logs = {name: (times(value, count), float(count)) for name, value in figures.items()}
            return StepResult(loss.total * count, count, logs)

        def validate() -> Mapping[str, float]:
            return {"val_iou": mean_iou(score_model(model, self.validation))}

        return TrainingPlan(step, validation_of(model, self.validation, card.preparation, validate))

    def summary(self, history: History) -> dict[str, Any]:
        """Who was learned from, the best epoch, and the curve's figures."""
        return {
            "method": type(self.method).__name__,
            "labelled_cases": len(self.labelled),
            "labelled_patients": list(self.labelled.patients),
            "unlabelled_cases": len(self.unlabelled),
            **best_epoch(history),
            **curve_summary(history),
        }


def _augmented_images(cases: Sequence[Case], transforms: Any, seed: int) -> Tensor:
    # The transforms move an image and its label; here the label says nothing.
    blank = [replace(case, label=np.zeros((1, *case.image.shape[1:]), np.uint8)) for case in cases]
    return augmented_batch(blank, transforms, seed)[0]
