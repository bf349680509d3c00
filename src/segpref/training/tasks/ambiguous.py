"""Training of U-Nets that draw masks: with a latent, by dropout, or as members of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from segpref.inference.mask_samplers import DropoutSampler, LatentSampler
from segpref.networks import InjectedDropout
from segpref.networks.seeded_dropout import DropoutPlace
from segpref.objectives.elbo import negative_elbo
from segpref.policies import MaskSampler, Segmenter
from segpref.runtime import moved
from segpref.seeds import derive_seed, image_seeds
from segpref.settings import setting
from segpref.training.config import Optimizer, Schedule
from segpref.training.loop import StepResult
from segpref.training.tasks.rated import Rated, RatedConfig, rated_batch, sample_figures
from segpref.training.trainer import TrainingContext, TrainingPlan
from segpref.training.validation import validation_of

__all__ = ["Ambiguous", "AmbiguousConfig"]


@dataclass(frozen=True, kw_only=True)
class AmbiguousConfig(RatedConfig):
    """Training of a Probabilistic U-Net, or of a plain one with or without dropout."""

    epochs: int = setting(50, least=1)
    images_per_epoch: int | None = setting(32000, least=1)
    batch_size: int = setting(32, least=1)
    learning_rate: float = setting(1e-3, least=0)
    schedule: Schedule = "linear"
    optimizer: Optimizer = "adamw"
    weight_decay: float = setting(1e-2, least=0)
    kl_weight: float = setting(1.0, least=0)

    dropout: float = setting(0.0, least=0, below=1)
    """Rate of dropout after every block, in training and of every sample; 0 for none."""

    @property
    def sampler(self) -> MaskSampler:
        """What draws masks with such a network."""
        return DropoutSampler(self.dropout) if self.dropout else LatentSampler()


@dataclass(frozen=True)
class Ambiguous(Rated):
    """A U-Net from one drawn rater of each image per step (Kohl et al., 2018, Sec. 2).

    ``L = CE + beta KL(posterior || prior)`` (:func:`~segpref.objectives.negative_elbo`): the raters of
    AmbiSeg's stage 1, drawn by the same seeds. Without a latent only the cross-entropy is left, and
    what is learned is the share of the raters at every pixel.

    Args:
        cases: prepared 2D cases with raters' masks, or with labels.
        validation: cases that choose the checkpoint, of other patients.
        card: what the model file will say; names the network (a ``ProbabilisticUNet``).
        config: beta, dropout, average and validation.

    Raises:
        SegprefError: no cases, or patients on both sides.
    """

    config: AmbiguousConfig
    kind = "fit-ambiguous"
    title = "training of a U-Net from several raters"

    def dropout(self, network: nn.Module) -> Sequence[DropoutPlace]:
        """Behind every block where a rate is asked for."""
        if not self.config.dropout:
            return ()
        image = torch.from_numpy(np.array(self.cases[0].image))[None]
        image = image.to(next(network.parameters()).device)
        return InjectedDropout(network, image).places(self.config.dropout)

    def begin(self, context: TrainingContext) -> TrainingPlan:
        """One rater's mask of each image, and its likelihood at a latent of the posterior."""
        config, wrapped = self.config, context.network
        latent = getattr(context.unwrapped, "latent", 0)
        validated = Segmenter(context.validated, self.card.label_space)
        device = validated.device

        def step(indices: list[int], epoch: int, number: int) -> StepResult:
            key = derive_seed(config.seed, epoch, number)
            # By image, so that it does not matter which process an image falls to.
            rngs = [np.random.default_rng([key, i]) for i in indices]
            cases = [self.cases[i] for i in indices]
            images, masks, _ = rated_batch(cases, rngs, config.augment)
            unit = np.stack([rng.standard_normal(latent, dtype=np.float32) for rng in rngs])
            images, masks = moved(images, device), moved(masks, device)
            wrapped.train()
            context.dropout.seeds = image_seeds([case.id for case in cases], key)
            logits, divergence = wrapped(images, masks, moved(torch.from_numpy(unit), device))
            loss = negative_elbo(logits, masks, divergence, config.kl_weight).sum()
            count = float(len(indices))
            logs = {
                "train_loss": (loss.detach(), count),
                "train_kl": (divergence.detach().float().sum(), count),
            }
            return StepResult(loss, len(indices), logs)

        def validate() -> Mapping[str, float]:
            return sample_figures(
                validated, self.validation, config.validation_samples, config.sampler, config.seed
            )

        return TrainingPlan(
            step, validation_of(validated, self.validation, self.card.preparation, validate)
        )
