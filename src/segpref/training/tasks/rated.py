"""What trainings have in common that see one drawn rater of each image at every step."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from segpref.data.prompts import draw_prompt
from segpref.data.splits import refuse_leakage
from segpref.inference.samples import rated_masks, sample_cases, score_samples
from segpref.policies import MaskSampler, ModelCard
from segpref.policies.diffusion import Sampler
from segpref.settings import setting
from segpref.training.averaging import averaged, warm_decay
from segpref.training.config import TrainingConfig
from segpref.training.tasks.supervised import best_epoch
from segpref.training.trainer import History, Task
from segpref.types import Case, SegprefError

__all__ = ["Rated", "RatedConfig", "rated_batch", "sample_figures"]


@dataclass(frozen=True, kw_only=True)
class RatedConfig(TrainingConfig):
    """Training on one drawn rater of each image per step."""

    kl_weight: float = setting(1e-3, least=0)
    """lambda, the weight of the divergence."""

    average: float = setting(0.9999, least=0, below=1)
    """Highest decay of the moving average of weights; 0 for none."""

    augment: bool = False
    """Flip and turn images and masks by right angles (needs square images)."""

    validation_samples: int = setting(8, least=1)
    """Masks that are drawn of every validation case."""


@dataclass(frozen=True)
class Rated(Task, ABC):
    """A model of masks of several raters; the moving average of its weights is saved.

    The best checkpoint is the one with the highest ``val_iou``, which here is the IoU of samples and
    raters matched one to one: unlike the mean over pairs it does not reward a model that says the same
    every time. ``val_ged`` and the other measures stand beside it.

    Args:
        cases: prepared 2D cases with raters' masks, or with labels.
        validation: cases that choose the checkpoint, of other patients.
        card: what the model file will say; names the network.
        config: of the training.

    Raises:
        SegprefError: no cases, or patients on both sides.
    """

    cases: Sequence[Case]
    validation: Sequence[Case]
    card: ModelCard
    config: RatedConfig
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


def rated_batch(
    cases: Sequence[Case], rngs: Sequence[np.random.Generator], augment: bool
) -> tuple[Tensor, Tensor, list[str | None]]:
    """Images, one rater's mask of each, and a prompt that is drawn independently of him.

    Args:
        cases: with raters' masks, an empty one among them or not, or with labels.
        rngs: one per case.
        augment: flip and turn image and mask by right angles.

    Returns:
        ``[B, channel, *space]``, ``[B, field, *space]`` of 0 and 1, and B texts.
    """
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


def sample_figures(
    model: Any,
    cases: Sequence[Case],
    count: int = 8,
    sampler: MaskSampler | None = None,
    seed: int = 0,
) -> Mapping[str, float]:
    """What validation says of a model that draws masks.

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


def _turned(array: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    turned = np.rot90(array, turns, axes=(-2, -1))
    return turned[..., ::-1] if flip else turned
