"""Bidirectional copy-paste between labelled and unlabelled images (BCP; Bai et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segpref.checking import checked
from segpref.objectives.supervised import SupervisedLoss
from segpref.runtime import next_in_batch
from segpref.training.semisupervised.checks import share, strength
from segpref.training.semisupervised.method import MethodLoss, StepBatch, Teacher
from segpref.training.semisupervised.mixing import paste_masks, pasted
from segpref.training.semisupervised.student import Student
from segpref.training.semisupervised.targets import largest_components, ramp_up
from segpref.types import IGNORE, SegprefError

__all__ = ["CopyPaste"]


@checked()
@dataclass(frozen=True)
class CopyPaste:
    """Labelled and unlabelled images are pasted into each other, both ways.

    At first labelled images are pasted into labelled ones (pre-training). Then, with a box per
    image, ``x_in`` is an unlabelled box in a labelled image and ``x_out`` a labelled box in an
    unlabelled one; the unlabelled part's target is the teacher's mask with the largest component of
    every structure::

        L = L_sup(labelled parts of x_in and of x_out) + w(t) L_sup(unlabelled parts of both)

    averaged over the two ways. In the paper ``w`` is constant and every image is used in one of the
    two; here each is used in both, so that a step sees as many images as with the other methods. The
    teacher's masks are made on whole images, before anything is pasted. The paper goes on from the
    best checkpoint of pre-training, here one training simply goes over.

    Args:
        weight: alpha, of the unlabelled pixels.
        ramp_up: share of the training after which the weight is whole; 0 for at once.
        decay: of the teacher's weights.
        pretraining: share of the training with labelled images alone; 0 when it starts from a base.
        side: length of a box, as a share of the image's along every axis.
        largest: whether only the largest component of the teacher's structures is kept.
    """

    weight: float = 0.5
    ramp_up: float = 0.0
    decay: float = 0.99
    pretraining: float = 0.25
    side: float = 2 / 3
    largest: bool = True

    def __post_init__(self) -> None:
        strength(self, "weight")
        share(self, "ramp_up", "decay", "pretraining")
        if not 0 < self.side < 1:
            raise SegprefError(f"side of CopyPaste must lie between 0 and 1, but is {self.side}")

    def loss(
        self,
        student: Student,
        teacher: Teacher,
        batch: StepBatch,
        progress: float,
        generators: Sequence[torch.Generator],
    ) -> MethodLoss:
        """Loss of one step."""
        loss = SupervisedLoss(batch.label_space)
        shape = batch.images.shape[2:]
        box_in, box_out = (paste_masks(shape, generators, self.side) for _ in range(2))
        if progress < self.pretraining:
            others, labels = next_in_batch(batch.images), next_in_batch(batch.labels)
            images = [pasted(others, batch.images, box_in), pasted(batch.images, others, box_out)]
            targets = [pasted(labels, batch.labels, box_in), pasted(batch.labels, labels, box_out)]
            supervised = loss(student(torch.cat(images)), torch.cat(targets))
            return MethodLoss(supervised, torch.zeros_like(supervised), 0.0, {})
        masks = batch.label_space.decode(teacher(batch.unlabelled))
        if self.largest:
            masks = largest_components(masks, batch.label_space)
        free = batch.unlabelled
        images = [pasted(free, batch.images, box_in), pasted(batch.images, free, box_out)]
        logits = student(torch.cat(images))
        nothing = torch.full_like(batch.labels, IGNORE)
        known = torch.cat(
            [pasted(nothing, batch.labels, box_in), pasted(batch.labels, nothing, box_out)]
        )
        guessed = torch.cat([pasted(masks, nothing, box_in), pasted(nothing, masks, box_out)])
        return MethodLoss(
            loss(logits, known),
            loss(logits, guessed),
            self.weight * ramp_up(progress - self.pretraining, self.ramp_up),
            {"pseudo_foreground": _foreground(masks)},
        )


def _foreground(masks: Tensor) -> Tensor:
    return (masks > 0).float().mean()
