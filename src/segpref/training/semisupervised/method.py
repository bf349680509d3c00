"""The interface of semi-supervised methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.training.semisupervised.student import Student
from segpref.types import LabelSpace

__all__ = ["Method", "MethodLoss", "StepBatch", "Teacher"]

Teacher = Callable[[Tensor], Tensor]
"""Images ``[B, channel, *space]`` to float32 logits, in evaluation mode and without a graph."""


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The images of a step, weakly augmented.

    Args:
        images: with labels.
        labels: of these images, :data:`~segpref.types.IGNORE` where unknown.
        unlabelled: images whose labels, if there are any, are not used in training.
        label_space: what the values of the labels mean.
    """

    images: Float[Tensor, "B channel *space"]
    labels: UInt8[Tensor, "B field *space"]
    unlabelled: Float[Tensor, "U channel *space"]
    label_space: LabelSpace


@dataclass(frozen=True, slots=True)
class MethodLoss:
    """The loss of a step and the figures that an epoch reports as means over its steps.

    Args:
        supervised: of the labelled images.
        unsupervised: of the unlabelled ones, before its weight.
        weight: of the unsupervised part.
        figures: what else is worth a curve; tensors without an axis are read once an epoch.
    """

    supervised: Float[Tensor, ""]
    unsupervised: Float[Tensor, ""]
    weight: float
    figures: Mapping[str, float | Tensor]

    @property
    def total(self) -> Float[Tensor, ""]:
        """What is minimised."""
        return self.supervised + self.weight * self.unsupervised


@runtime_checkable
class Method(Protocol):
    """A way of learning from labelled and unlabelled images together."""

    @property
    def decay(self) -> float:
        """Of the teacher's weights (:func:`segpref.training.averaging.teacher_decay`); 0 where the
        teacher is the student.
        """
        ...

    def loss(
        self,
        student: Student,
        teacher: Teacher,
        batch: StepBatch,
        progress: float,
        generators: Sequence[torch.Generator],
    ) -> MethodLoss:
        """Loss of one step.

        Args:
            student: the network that learns; one pass with a graph.
            teacher: its average.
            batch: the images.
            progress: share of the training that is done, 0 to 1.
            generators: one per unlabelled image, on the CPU, of all that the method draws for it.
        """
        ...
