"""Samples of a diffusion model, each from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.checking import checked
from segpref.policies.diffusion.policy import Denoiser
from segpref.policies.diffusion.process import Solver
from segpref.runtime import moved
from segpref.types import SegprefError

__all__ = ["Sampler"]


@checked(steps={"least": 1}, eta={"least": 0, "most": 1}, batch_size={"least": 1})
@dataclass(frozen=True)
class Sampler:
    """Draws masks.

    Every sample has a generator of its own, seeded by its number, for its latent, its first noise and
    the noise of every step. So it comes out the same alone and in any batch, but for the last bits of
    the network's arithmetic, which can turn a pixel that lies on the threshold.

    Args:
        solver: ``ddpm`` (ancestral sampling), ``ddim`` (as in TDG-DiffDPO, Sec. 3.5, with 100 steps),
            ``dpm-solver++`` or ``unipc``, which need about 10 to 20 steps.
        steps: evaluations of the network; of ``ddim`` a divisor of the process's T.
        eta: of ``ddim`` only, the share of DDPM's noise that is added at every step, 0 for none.
        threshold: masks are what lies above; samples lie about -1 and +1. The paper says 0.5.
        batch_size: samples that are denoised together.
    """

    solver: Solver = "dpm-solver++"
    steps: int = 15
    eta: float = 0.0
    threshold: float = 0.0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.eta and self.solver != "ddim":
            raise SegprefError(f"eta is a setting of ddim, not of {self.solver}: leave it out")

    def __call__(
        self,
        model: Denoiser,
        images: Float[Tensor, "B channel *space"],
        texts: Sequence[Sequence[str | None]],
        seeds: Sequence[Sequence[int]],
    ) -> UInt8[np.ndarray, "B N field *space"]:
        """N masks of every image; see :meth:`soft`."""
        return self.cut(self.soft(model, images, texts, seeds))

    def cut(self, samples: Float[Tensor, "*n"]) -> UInt8[np.ndarray, "*n"]:
        """Masks of samples that are numbers still: what lies above the threshold."""
        return (samples > self.threshold).to(torch.uint8).numpy()

    def passes(self, count: int) -> float:
        """Evaluations of the network per sample, however many samples of an image there are."""
        return float(self.steps)

    def soft(
        self,
        model: Denoiser,
        images: Float[Tensor, "B channel *space"],
        texts: Sequence[Sequence[str | None]],
        seeds: Sequence[Sequence[int]],
    ) -> Float[Tensor, "B N field *space"]:
        """N samples of every image before they are cut, about -1 and +1, on the CPU.

        Args:
            model: a diffusion model.
            images: network inputs.
            texts: N texts (or None) per image, which may be all the same.
            seeds: N seeds per image.

        Raises:
            SegprefError: not as many texts as seeds.
        """
        sizes = [len(of_image) for of_image in seeds]
        if sizes != [len(of_image) for of_image in texts] or len(set(sizes)) > 1:
            raise SegprefError("a sampler needs one text and one seed per sample, N of every image")
        if len(images) != len(seeds):
            raise SegprefError(
                f"{len(images)} images need as many lists of seeds, not {len(seeds)}"
            )
        flat = [(image, text) for image, of_image in enumerate(texts) for text in of_image]
        numbers = [seed for of_image in seeds for seed in of_image]
        parts = []
        for first in range(0, len(flat), self.batch_size):
            few = slice(first, first + self.batch_size)
            parts.append(self._batch(model, images, flat[few], numbers[few]))
        space = (model.label_space.fields, *images.shape[2:])
        whole = torch.cat(parts) if parts else images.new_zeros(0, *space)
        return whole.reshape(len(images), sizes[0] if sizes else 0, *space)

    @torch.no_grad()
    def _batch(
        self,
        model: Denoiser,
        images: Tensor,
        asked: Sequence[tuple[int, str | None]],
        seeds: Sequence[int],
    ) -> Float[Tensor, "S field *space"]:
        # Image and text are encoded once, however many samples share them.
        distinct = list(dict.fromkeys(asked))
        encoded = model.encode(
            images[[image for image, _ in distinct]], [text for _, text in distinct]
        )
        places = torch.tensor([distinct.index(pair) for pair in asked], device=model.device)
        context = encoded.rows(places)
        scheduler = model.process.scheduler(self.solver, self.steps)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = (model.label_space.fields, *images.shape[2:])
        unit = torch.stack([torch.randn(model.latent, generator=one) for one in generators])
        noise = torch.stack([torch.randn(shape, generator=one) for one in generators])
        unit = moved(unit, model.device)
        state = moved(noise, model.device) * scheduler.init_noise_sigma
        # Of the solvers these two draw noise at every step; the others take no generator.
        extra = {"generator": generators} if self.solver in ("ddpm", "ddim") else {}
        if self.solver == "ddim":
            extra["eta"] = self.eta  # type: ignore[assignment]
        for step in scheduler.timesteps:
            time = step.to(model.device).expand(len(state)).long()
            prediction = model.denoise(context, state, time, unit)
            state = scheduler.step(prediction, step, state, **extra).prev_sample
        samples: Tensor = state.float().cpu()
        return samples
