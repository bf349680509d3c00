"""Weak-to-strong consistency: FixMatch and UniMatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.checking import checked
from segpref.objectives.supervised import SupervisedLoss
from segpref.runtime import in_step, next_in_batch, step_sum, step_total
from segpref.training.augmenting import StrongAugmentation
from segpref.training.semisupervised.checks import share, strength
from segpref.training.semisupervised.method import MethodLoss, StepBatch, Teacher
from segpref.training.semisupervised.mixing import cutmix_masks, pasted
from segpref.training.semisupervised.student import Student
from segpref.training.semisupervised.targets import confident_labels, ramp_up
from segpref.types import IGNORE, SegprefError

__all__ = ["FixMatch", "UniMatch"]


@checked()
@dataclass(frozen=True)
class FixMatch:
    """The confident mask of a weak view is the target of a strong one (Sohn et al., NeurIPS 2020).

    ``L = L_sup(labelled) + w(t) c L_sup(student(strong(u)), y)``, where ``y`` is the teacher's mask of
    the weak view where its probability reaches the threshold, and ignored elsewhere, ``c`` the share
    of pixels that are not ignored, and ``w(t) = weight exp(-5 (1 - t / ramp_up)^2)``. So the
    cross-entropy in ``L_sup`` is Eq. 4: a sum over confident pixels divided by all. The Dice part is
    not in the paper, but UniMatch has it on ACDC; it is weighted alike, or a handful of confident
    pixels would count as much as a whole image. An image may get a box of its neighbour in the
    batch, and that one's target (CutMix); otherwise the strong view is not moved. With ``decay`` 0
    the teacher is the student itself, as in the paper, in evaluation mode.

    Args:
        weight: of the unlabelled images.
        ramp_up: share of the training after which the weight is whole; 0 for at once.
        decay: of the teacher's weights.
        threshold: least probability of a pixel that counts.
        cutmix: probability that an image gets a box.
        strong: changes of intensity.
    """

    weight: float = 1.0
    ramp_up: float = 0.0
    decay: float = 0.0
    threshold: float = 0.95
    cutmix: float = 0.5
    strong: StrongAugmentation = field(default_factory=StrongAugmentation)

    def __post_init__(self) -> None:
        strength(self, "weight")
        share(self, "ramp_up", "decay", "threshold", "cutmix")

    def loss(
        self,
        student: Student,
        teacher: Teacher,
        batch: StepBatch,
        progress: float,
        generators: Sequence[torch.Generator],
    ) -> MethodLoss:
        """Loss of one step."""
        sure = confident_labels(teacher(batch.unlabelled), batch.label_space, self.threshold)
        view, target = strong_view(batch.unlabelled, sure, self.strong, self.cutmix, generators)
        logits = student(torch.cat([batch.images, view]))
        labelled, unlabelled = logits.tensor_split([len(batch.images)])
        loss = SupervisedLoss(batch.label_space)
        return MethodLoss(
            loss(labelled, batch.labels),
            confident_loss(loss, unlabelled, target),
            self.weight * ramp_up(progress, self.ramp_up),
            _figures(sure),
        )


@checked()
@dataclass(frozen=True)
class UniMatch:
    """FixMatch with two strong views and a view with perturbed features (Yang et al., CVPR 2023).

    ``L = L_sup + w(t) (L_1 / 4 + L_2 / 4 + L_fp / 2)`` (Eq. 5), each against the confident mask of
    the weak view: two strong views drawn independently, with boxes of their own, and the weak view
    again with channels of the encoder's features set to zero (see :mod:`.features`). Boxes come from
    the neighbour in the batch, where the paper loads a second batch; otherwise as in
    :class:`FixMatch`.

    Args:
        weight: of the unlabelled images.
        ramp_up: share of the training after which the weight is whole; 0 for at once.
        decay: of the teacher's weights.
        threshold: least probability of a pixel that counts.
        cutmix: probability that an image gets a box.
        feature_dropout: probability that a channel of features is set to zero.
        strong: changes of intensity.
    """

    weight: float = 1.0
    ramp_up: float = 0.0
    decay: float = 0.0
    threshold: float = 0.95
    cutmix: float = 0.5
    feature_dropout: float = 0.5
    strong: StrongAugmentation = field(default_factory=StrongAugmentation)

    def __post_init__(self) -> None:
        strength(self, "weight")
        share(self, "ramp_up", "decay", "threshold", "cutmix", "feature_dropout")
        if self.feature_dropout == 1:
            raise SegprefError(
                "feature_dropout of UniMatch must keep some channels: choose less than 1"
            )

    def loss(
        self,
        student: Student,
        teacher: Teacher,
        batch: StepBatch,
        progress: float,
        generators: Sequence[torch.Generator],
    ) -> MethodLoss:
        """Loss of one step."""
        weak, known, count = batch.unlabelled, len(batch.images), len(batch.unlabelled)
        sure = confident_labels(teacher(weak), batch.label_space, self.threshold)
        first, first_target = strong_view(weak, sure, self.strong, self.cutmix, generators)
        second, second_target = strong_view(weak, sure, self.strong, self.cutmix, generators)
        images = torch.cat([batch.images, first, second, weak])
        perturbed = range(known + 2 * count, len(images))
        logits = student.perturbed(images, perturbed, self.feature_dropout, generators)
        views = logits.tensor_split([known, known + count, known + 2 * count])
        loss = SupervisedLoss(batch.label_space)
        unsupervised = (
            confident_loss(loss, views[1], first_target) / 4
            + confident_loss(loss, views[2], second_target) / 4
            + confident_loss(loss, views[3], sure) / 2
        )
        return MethodLoss(
            loss(views[0], batch.labels),
            unsupervised,
            self.weight * ramp_up(progress, self.ramp_up),
            _figures(sure),
        )


def confident_loss(
    loss: SupervisedLoss,
    logits: Float[Tensor, "B C *space"],
    targets: UInt8[Tensor, "B field *space"],
) -> Float[Tensor, ""]:
    """Supervised loss of the pixels that are not ignored, times their share; 0 where there is none."""
    share, images = (targets != IGNORE).float().mean(), len(targets)
    if in_step():  # of the whole batch, as the loss
        share = step_sum(share * images) / step_total(images)
    return loss(logits, targets) * share


def strong_view(
    images: Float[Tensor, "B channel *space"],
    targets: UInt8[Tensor, "B field *space"],
    strong: StrongAugmentation,
    cutmix: float,
    generators: Sequence[torch.Generator],
) -> tuple[Float[Tensor, "B channel *space"], UInt8[Tensor, "B field *space"]]:
    """Strongly changed images with a box of the next image in the batch, and their targets."""
    changed = strong(images, generators)
    boxes = cutmix_masks(images.shape[2:], generators, cutmix)
    view = pasted(next_in_batch(changed), changed, boxes)
    return view, pasted(next_in_batch(targets), targets, boxes)


def _figures(sure: Tensor) -> dict[str, Tensor]:
    counted = sure != IGNORE
    return {
        "confident": counted.float().mean(),
        "confident_foreground": (counted & (sure > 0)).float().mean(),
    }
