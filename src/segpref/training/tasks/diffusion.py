"""Stage 1 of a diffusion model: AmbiSeg from the masks of several raters (TDG-DiffDPO, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from segpref.data.prompts import prompts_of
from segpref.policies.diffusion import Sampler, TextEncoder, diffusion_of, draw, signed
from segpref.runtime import moved
from segpref.seeds import derive_seed
from segpref.settings import setting
from segpref.training.config import Optimizer, Schedule
from segpref.training.loop import StepResult
from segpref.training.tasks.rated import Rated, RatedConfig, rated_batch, sample_figures
from segpref.training.trainer import TrainingContext, TrainingPlan
from segpref.training.validation import validation_of

__all__ = ["Diffusion", "DiffusionConfig"]


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(RatedConfig):
    """Stage 1 of a diffusion model: 50,000 steps of 32 images, as in the paper (TDG-DiffDPO)."""

    epochs: int = setting(50, least=1)
    images_per_epoch: int | None = setting(32000, least=1)
    batch_size: int = setting(32, least=1)
    weight_decay: float = setting(1e-2, least=0)
    schedule: Schedule = "linear"
    optimizer: Optimizer = "adamw"

    text_dropout: float = setting(0.0, least=0, below=1)
    """Share of images whose text is left out, drawn anew at every step, so that the model can be asked
    without a text; 0 in the paper, where every image has one."""

    validation_sampler: Sampler = field(default_factory=lambda: Sampler(steps=10))
    """Draws the masks of validation cases: 10 steps of DPM-Solver++."""


@dataclass(frozen=True)
class Diffusion(Rated):
    """A denoiser from masks of several raters; the moving average of its weights is saved.

    Eq. 5, ``L = L_mse + lambda L_kl``: at every step one rater of the image is drawn (an empty mask
    among them), independently of him one prompt, a time step and noise. The error is averaged over
    pixels, the divergence summed over the latent's axes. AdamW, learning rate falling linearly to 0.

    Args:
        cases: prepared 2D cases with raters' masks, or with labels.
        validation: cases that choose the checkpoint, of other patients.
        card: what the model file will say; names the network (an ``AmbiSegNetwork``).
        config: losses, average, texts and validation.
        encoder: the text encoder, if it is loaded already; by the network's ``text_encoder`` if None.

    Raises:
        SegprefError: no cases, or patients on both sides.
    """

    config: DiffusionConfig
    encoder: TextEncoder | None = None
    kind = "fit-diffusion"
    title = "diffusion stage 1"

    def begin(self, context: TrainingContext) -> TrainingPlan:
        """Noise on one rater's mask, and the error of what the network makes of it."""
        config, wrapped = self.config, context.network
        policy = diffusion_of(self.card, context.unwrapped, self.encoder)
        if policy.encoder is not None:
            everybody = (*self.cases, *self.validation)
            policy.encoder.prepare(text for case in everybody for text in prompts_of(case))
        validated = diffusion_of(self.card, context.validated, policy.encoder)

        def step(indices: list[int], epoch: int, number: int) -> StepResult:
            key = derive_seed(config.seed, epoch, number)
            # By image, so that it does not matter which process an image falls to.
            rngs = [np.random.default_rng([key, i]) for i in indices]
            images, masks, texts = rated_batch(
                [self.cases[i] for i in indices], rngs, config.augment
            )
            drawn = draw(rngs, masks.shape[1:], policy.process.timesteps, policy.latent)
            # Last of all, so that the same seed draws the same masks and noise whatever the share.
            texts = [
                None if rng.random() < config.text_dropout else text
                for rng, text in zip(rngs, texts, strict=True)
            ]
            drawn, clean = drawn.to(policy.device), signed(moved(masks, policy.device))
            wrapped.train()
            noisy = policy.process.noised(clean, drawn.noise, drawn.time)
            prediction, divergence = wrapped(
                moved(images, policy.device),
                policy.words(texts),
                noisy,
                drawn.time,
                drawn.unit,
                clean,
            )
            target = policy.process.target(clean, drawn.noise, drawn.time)
            error = ((prediction.float() - target) ** 2).flatten(1).mean(dim=1)
            loss = (error + config.kl_weight * divergence.float()).sum()
            count = float(len(indices))
            logs = {
                "train_loss": (loss.detach(), count),
                "train_mse": (error.detach().sum(), count),
                "train_kl": (divergence.detach().sum(), count),
            }
            return StepResult(loss, len(indices), logs)

        def validate() -> Mapping[str, float]:
            return sample_figures(
                validated, self.validation, config.validation_samples, config.validation_sampler,
                config.seed,
            )  # fmt: skip

        form = self.card.preparation
        return TrainingPlan(step, validation_of(validated, self.validation, form, validate))
