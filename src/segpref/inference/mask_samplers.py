"""What draws many masks of an image: from a latent, by dropout, or by the members of an ensemble.

:class:`~segpref.policies.diffusion.Sampler` does the same with diffusion models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.checking import checked
from segpref.networks import ProbabilisticUNet
from segpref.policies import Segmenter
from segpref.runtime import moved
from segpref.seeds import normals
from segpref.types import SegprefError

__all__ = ["DropoutSampler", "EnsembleSampler", "LatentSampler"]

_TOGETHER = 64

Seeds = Sequence[Sequence[int]]


class _OfLogits:
    """Samples are logits."""

    def cut(self, samples: Float[Tensor, "*n"]) -> UInt8[np.ndarray, "*n"]:
        """Masks of samples: what is likelier than not."""
        return (samples > 0).to(torch.uint8).numpy()


@dataclass(frozen=True)
class LatentSampler(_OfLogits):
    """Draws a latent from the prior of a Probabilistic U-Net (Kohl et al., 2018, Eq. 2).

    Of a network without a latent all samples are the same. Texts are not looked at.
    """

    @torch.no_grad()
    def soft(
        self,
        model: Segmenter,
        images: Float[Tensor, "B channel *space"],
        texts: Sequence[Sequence[str | None]],
        seeds: Seeds,
    ) -> Float[Tensor, "B N field *space"]:
        """Logits at N latents of every image.

        Args:
            model: its network is a :class:`~segpref.networks.ProbabilisticUNet`.
            images: network inputs.
            texts: not used.
            seeds: N seeds per image, each of a latent.

        Raises:
            SegprefError: another network.
        """
        network = getattr(model.network, "module", model.network)
        if not isinstance(network, ProbabilisticUNet):
            raise SegprefError(
                f"a {type(network).__name__} has no latent to draw: name a network of class "
                "segpref.networks.ProbabilisticUNet"
            )
        found = []
        for image, of_image in zip(images, seeds, strict=True):
            # One by one, so that an image's samples are the same to the last bit in any batch.
            features, prior = network.encode(moved(image[None], model.device))
            parts = []
            for first in range(0, len(of_image), _TOGETHER):
                few = of_image[first : first + _TOGETHER]
                latents = None
                if prior is not None:
                    latents = prior.sample(moved(normals(few, network.latent), model.device))
                parts.append(network.decode(features.expand(len(few), -1, -1, -1), latents))
            found.append(torch.cat(parts).float().cpu())
        return torch.stack(found)

    def passes(self, count: int) -> float:
        """One for all samples of an image; what a latent costs beside it are 1x1 convolutions."""
        return 1 / count


@checked(rate={"above": 0, "below": 1})
@dataclass(frozen=True)
class DropoutSampler(_OfLogits):
    """Draws by passes with dropout after every block (Monte-Carlo dropout, Gal & Ghahramani, 2016).

    Texts are not looked at. Passes are made together, which can change the last bits of logits, and so
    turn a pixel that lies on the threshold.

    Args:
        rate: of the dropout, as in training.
    """

    rate: float

    @torch.no_grad()
    def soft(
        self,
        model: Segmenter,
        images: Float[Tensor, "B channel *space"],
        texts: Sequence[Sequence[str | None]],
        seeds: Seeds,
    ) -> Float[Tensor, "B N field *space"]:
        """Logits of N passes of every image.

        Args:
            model: any segmenter.
            images: network inputs.
            texts: not used.
            seeds: N seeds per image, each of a pass's dropout.

        Raises:
            SegprefError: no place for dropout in the network.
        """
        flat = [(place, seed) for place, of_image in enumerate(seeds) for seed in of_image]
        parts = []
        for first in range(0, len(flat), _TOGETHER):
            few = flat[first : first + _TOGETHER]
            batch = images[[place for place, _ in few]]
            logits = model.stochastic_logits(batch, self.rate, [seed for _, seed in few])
            if logits is None:
                raise SegprefError(
                    "the network has no block that dropout could follow: choose another network"
                )
            parts.append(logits.float().cpu())
        logits = torch.cat(parts)
        return logits.reshape(len(images), -1, *logits.shape[1:])

    def passes(self, count: int) -> float:
        """One for every sample."""
        return 1.0


@checked(members={"least": 1})
@dataclass(frozen=True)
class EnsembleSampler(_OfLogits):
    """Sample n is the mask of member n mod M: there are M different masks of an image at most.

    Neither texts nor seeds are looked at.

    Args:
        members: number M of networks.
    """

    members: int

    @torch.no_grad()
    def soft(
        self,
        model: Sequence[Segmenter],
        images: Float[Tensor, "B channel *space"],
        texts: Sequence[Sequence[str | None]],
        seeds: Seeds,
    ) -> Float[Tensor, "B N field *space"]:
        """Logits of the members, again and again.

        Args:
            model: the M members.
            images: network inputs.
            texts: not used.
            seeds: N per image; their number counts alone.
        """
        counts = [len(of_image) for of_image in seeds]
        count = max(counts, default=0)
        logits = [one.logits(images).float().cpu() for one in model[:count]]
        return torch.stack([logits[n % len(logits)] for n in range(count)], dim=1)

    def passes(self, count: int) -> float:
        """One of every member for all samples of an image."""
        return min(self.members, count) / count
