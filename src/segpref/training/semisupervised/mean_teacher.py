"""Mean teacher: the same answer under noise (Tarvainen & Valpola, NeurIPS 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from segpref.checking import checked
from segpref.objectives.supervised import SupervisedLoss
from segpref.training.augmenting import normal_noise
from segpref.training.semisupervised.checks import share, strength
from segpref.training.semisupervised.method import MethodLoss, StepBatch, Teacher
from segpref.training.semisupervised.student import Student
from segpref.training.semisupervised.targets import probabilities, ramp_up

__all__ = ["MeanTeacher"]


@checked()
@dataclass(frozen=True)
class MeanTeacher:
    """Student and teacher are drawn to the same probabilities under different noise.

    ``L = L_sup + w(t) mean (p_student(u + e) - p_teacher(u + e'))^2``, the mean over unlabelled
    images, outputs and pixels; ``w(t) = weight exp(-5 (1 - t / ramp_up)^2)`` as in UA-MT (Yu et al.,
    MICCAI 2019), whose uncertainty mask is not part of this. Labelled images take part in the
    supervised loss only.

    Args:
        weight: of consistency, once it is whole.
        ramp_up: share of the training after which the weight is whole; 0 for at once.
        decay: of the teacher's weights.
        noise: standard deviation of Gaussian noise, as a share of each image's range; clipped at
            twice that.
    """

    weight: float = 0.1
    ramp_up: float = 1.0
    decay: float = 0.99
    noise: float = 0.1

    def __post_init__(self) -> None:
        strength(self, "weight", "noise")
        share(self, "ramp_up", "decay")

    def loss(
        self,
        student: Student,
        teacher: Teacher,
        batch: StepBatch,
        progress: float,
        generators: Sequence[torch.Generator],
    ) -> MethodLoss:
        """Loss of one step."""
        aim = probabilities(teacher(self._noisy(batch.unlabelled, generators)), batch.label_space)
        logits = student(torch.cat([batch.images, self._noisy(batch.unlabelled, generators)]))
        labelled, unlabelled = logits.tensor_split([len(batch.images)])
        given = probabilities(unlabelled.float(), batch.label_space)
        return MethodLoss(
            SupervisedLoss(batch.label_space)(labelled, batch.labels),
            functional.mse_loss(given, aim),
            self.weight * ramp_up(progress, self.ramp_up),
            {},
        )

    def _noisy(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        axes = tuple(range(2, images.ndim))
        span = images.amax(axes, keepdim=True) - images.amin(axes, keepdim=True)
        noise = normal_noise(images, generators).clamp(-2, 2)
        return images + self.noise * span * noise
