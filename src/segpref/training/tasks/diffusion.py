"""Stage 1 of a diffusion model: AmbiSeg from the masks of several raters (TDG-DiffDPO, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from segpref.data.prompts import draw_prompt, prompts_of
from segpref.data.splits import refuse_leakage
from segpref.inference.samples import rated_masks, sample_cases, score_samples
from segpref.policies import ModelCard
from segpref.policies.diffusion import AmbiSeg, Sampler, TextEncoder, diffusion_of, draw, signed
from segpref.runtime import moved
from segpref.seeds import derive_seed
from segpref.settings import setting
from segpref.training.averaging import averaged, warm_decay
from segpref.training.config import Optimizer, Schedule, TrainingConfig
from segpref.training.loop import StepResult
from segpref.training.tasks.supervised import best_epoch
from segpref.training.trainer import History, Task, TrainingContext, TrainingPlan
from segpref.training.validation import validation_of
from segpref.types import Case, SegprefError

__all__ = ["Diffusion", "DiffusionConfig", "sample_figures"]


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(TrainingConfig):
    """Stage 1 of a diffusion model: 50,000 steps of 32 images, as in the paper (TDG-DiffDPO)."""

    epochs: int = setting(50, least=1)
    images_per_epoch: int | None = setting(32000, least=1)
    batch_size: int = setting(32, least=1)
    weight_decay: float = setting(1e-2, least=0)
    schedule: Schedule = "linear"
    optimizer: Optimizer = "adamw"

    kl_weight: float = setting(1e-3, least=0)
    """lambda, the weight of the divergence."""

    average: float = setting(0.9999, least=0, below=1)
    """Highest decay of the moving average of weights; 0 for none."""

    augment: bool = False
    """Flip and turn images and masks by right angles (needs square images)."""

    text_dropout: float = setting(0.0, least=0, below=1)
    """Share of images whose text is left out, drawn anew at every step, so that the model can be asked
    without a text; 0 in the paper, where every image has one."""

    validation_samples: int = setting(8, least=1)
    """Masks that are drawn of every validation case."""

    validation_sampler: Sampler = field(default_factory=lambda: Sampler(steps=10))
    """Draws them: 10 steps of DPM-Solver++."""


@dataclass(frozen=True)
class Diffusion(Task):
    """A denoiser from masks of several raters; the moving average of its weights is saved.

    Eq. 5, ``L = L_mse + lambda L_kl``: at every step one rater of the image is drawn (an empty mask
    among them), independently of him one prompt, a time step and noise. The error is averaged over
    pixels, the divergence summed over the latent's axes. AdamW, learning rate falling linearly to 0.

    The best checkpoint is the one with the highest ``val_iou``, which here is the IoU of samples and
    raters matched one to one: unlike the mean over pairs it does not reward a model that says the same
    every time. ``val_ged`` and the other measures stand beside it.

    Args:
        cases: prepared 2D cases with raters' masks, or with labels.
        validation: cases that choose the checkpoint, of other patients.
        card: what the model file will say; names the network (an ``AmbiSegNetwork``).
        config: losses, average, texts and validation.
        encoder: the text encoder, if it is loaded already; by the network's ``text_encoder`` if None.

    Raises:
        SegprefError: no cases, or patients on both sides.
    """

    cases: Sequence[Case]
    validation: Sequence[Case]
    card: ModelCard
    config: DiffusionConfig
    encoder: TextEncoder | None = None
    kind = "fit-diffusion"
    title = "diffusion stage 1"
    normalises = True

    def __post_init__(self) -> None:
        if not len(self.cases) or not len(self.validation):
            raise SegprefError("there is no case to train on or to validate: check the split")
        refuse_leakage(
            {
                "the training cases": self._patients,
                "the validation set": sorted({case.patient for case in self.validation}),
            }
        )

    @property
    def images(self) -> int:
        """The cases."""
        return len(self.cases)

    @property
    def _patients(self) -> list[str]:
        return sorted({case.patient for case in self.cases})

    def network(self) -> nn.Module:
        """Random weights."""
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            return self.card.network.build()

    def average(self, network: nn.Module) -> AveragedModel | None:
        """The moving average that is validated and saved."""
        decay = self.config.average
        return averaged(network, decay, warm_decay) if decay else None

    def leaves_weights_out(self, network: nn.Module) -> bool:
        """No: error and divergence hang on every weight."""
        return False

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
            images, masks, texts = _drawn([self.cases[i] for i in indices], rngs, config.augment)
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

    def summary(self, history: History) -> dict[str, Any]:
        """Who was learned from, and the best epoch."""
        best = best_epoch(history)
        return {
            "cases": len(self.cases),
            "labelled_patients": self._patients,
            **best,
            **{
                name: value
                for name, value in history[best["best_epoch"]].items()
                if name == "val_ged"
            },
        }


def sample_figures(
    model: AmbiSeg,
    cases: Sequence[Case],
    count: int = 8,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> Mapping[str, float]:
    """What validation says of a diffusion model.

    ``val_iou``, by which checkpoints are chosen, is the IoU of samples and raters matched one to one.

    Args:
        model: its network is set to evaluation mode.
        cases: with raters' masks.
        count: samples of every case.
        sampler: draws them; 10 steps of DPM-Solver++ where None.
        seed: of the samples.
    """
    model.network.eval()
    masks = sample_cases(model, cases, count, sampler or Sampler(steps=10), seed)
    scores = dict(score_samples(masks, cases).mean())
    return {
        "val_iou": scores.pop("matched_iou"),
        **{f"val_{name}": value for name, value in scores.items()},
    }


def _drawn(
    cases: Sequence[Case], rngs: Sequence[np.random.Generator], augment: bool
) -> tuple[Tensor, Tensor, list[str | None]]:
    """Images, one rater's mask of each, and a prompt that is drawn independently of him."""
    images, masks, texts = [], [], []
    for case, rng in zip(cases, rngs, strict=True):
        raters = rated_masks(case)
        mask = raters[int(rng.integers(len(raters)))]
        texts.append(draw_prompt(case, rng))
        image = case.image
        if augment:
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            image, mask = (_turned(array, turns, flip) for array in (image, mask))
        images.append(image)
        masks.append(mask)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), texts


def _turned(array: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    turned = np.rot90(array, turns, axes=(-2, -1))
    return turned[..., ::-1] if flip else turned
