"""Gaussians of a latent, and the small network that gives one for an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

__all__ = ["Gaussian", "GaussianEncoder"]

_LOG_STD = (-5.0, 2.0)


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Axis-aligned Gaussians."""

    mean: Float[Tensor, "B latent"]
    log_std: Float[Tensor, "B latent"]

    def sample(self, unit: Float[Tensor, "B latent"]) -> Float[Tensor, "B latent"]:
        """``mean + std unit``, differentiable in both."""
        return self.mean + self.log_std.exp() * unit

    def samples(self, units: Float[Tensor, "B N latent"]) -> Float[Tensor, "B N latent"]:
        """N of each Gaussian."""
        return self.mean[:, None] + self.log_std[:, None].exp() * units

    def divergence(self, other: Gaussian) -> Float[Tensor, " B"]:
        """``KL(self || other)``, summed over the latent's axes, in nats."""
        ratio = 2 * (self.log_std - other.log_std)
        shift = (self.mean - other.mean) ** 2 * (-2 * other.log_std).exp()
        return 0.5 * (ratio.exp() + shift - 1 - ratio).sum(dim=1)

    def log_density(self, values: Float[Tensor, "B N latent"]) -> Float[Tensor, "B N"]:
        """Natural logarithm of the density at N values each, summed over the latent's axes."""
        mean, log_std = self.mean[:, None], self.log_std[:, None]
        units = (values - mean) * (-log_std).exp()
        return -(0.5 * units**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(dim=2)

    def rows(self, places: Int64[Tensor, " S"]) -> Gaussian:
        """Those at some places of the batch."""
        return Gaussian(self.mean[places], self.log_std[places])


class GaussianEncoder(nn.Module):
    """An image, and what is known beside it, to a Gaussian.

    Args:
        inputs: channels of the image.
        channels: features of its three convolutions, each of which halves the resolution.
        latent: length of the latent.
        beside: length of what is known beside the image, such as the summary of a text.
    """

    def __init__(self, inputs: int, channels: int, latent: int, beside: int = 0) -> None:
        super().__init__()
        widths = [inputs, channels, channels, channels]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            parts += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
        self.body = nn.Sequential(*parts)
        self.head = nn.Linear(channels + beside, 2 * latent)

    def forward(
        self,
        images: Float[Tensor, "B channel *space"],
        beside: Float[Tensor, "B beside"] | None = None,
    ) -> Gaussian:
        """The Gaussian of every image."""
        pooled = self.body(images).mean(dim=(2, 3))
        joined = pooled if beside is None else torch.cat([pooled, beside], dim=1)
        mean, log_std = self.head(joined).chunk(2, dim=1)
        return Gaussian(mean, log_std.clamp(*_LOG_STD))
