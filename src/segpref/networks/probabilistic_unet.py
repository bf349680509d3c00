"""The Probabilistic U-Net: a U-Net whose last features meet a latent (Kohl et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segpref.checking import checked
from segpref.late import late
from segpref.networks.gaussians import Gaussian, GaussianEncoder
from segpref.types import SegprefError

__all__ = ["ProbabilisticUNet"]

nets = late("monai.networks.nets")


@checked(
    in_channels={"least": 1},
    out_channels={"least": 1},
    channels={"least": 1},
    units={"least": 0},
    features={"least": 1},
    latent={"least": 0},
    latent_channels={"least": 1},
)
class ProbabilisticUNet(nn.Module):
    """A U-Net and a Gaussian latent that stands for the rater (Kohl et al., 2018, Sec. 2).

    The U-Net sees an image once. A latent is laid over all pixels of its last features, and three 1x1
    convolutions make logits of both; so a further mask of the image costs these alone. In training
    the latent is of the posterior, which sees image and mask; afterwards of the prior, which sees the
    image. Called with images alone it is a segmenter: its logits are those at the prior's mean.

    Other than in the paper: prior and posterior are three strided convolutions each, not the
    contracting half of a U-Net, and the U-Net is MONAI's, with instance normalisation.

    Args:
        in_channels: channels of the image.
        out_channels: structures of the mask, each with a logit of its own.
        channels: features per level of the U-Net; every level halves the resolution.
        units: residual units per level; 0 for plain convolutions.
        features: of the last map, which the latent is joined to.
        latent: length of the latent (6 in the paper); 0 for none, which leaves a plain U-Net.
        latent_channels: features of the prior's and posterior's networks.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64),
        units: int = 1,
        features: int = 16,
        latent: int = 6,
        latent_channels: int = 32,
    ) -> None:
        super().__init__()
        self.latent = latent
        self._multiple = 2 ** (len(channels) - 1)
        self.unet: nn.Module = nets.UNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=features,
            channels=tuple(channels),
            strides=(2,) * (len(channels) - 1),
            num_res_units=units,
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(features + latent, features, 1),
            nn.ReLU(),
            nn.Conv2d(features, features, 1),
            nn.ReLU(),
            nn.Conv2d(features, out_channels, 1),
        )
        if latent:
            self.prior = GaussianEncoder(in_channels, latent_channels, latent)
            self.posterior = GaussianEncoder(in_channels + out_channels, latent_channels, latent)

    @overload
    def forward(self, images: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B C *space"]: ...

    @overload
    def forward(
        self,
        images: Float[Tensor, "B channel *space"],
        masks: UInt8[Tensor, "B C *space"],
        unit: Float[Tensor, "B latent"],
    ) -> tuple[Float[Tensor, "B C *space"], Float[Tensor, " B"]]: ...

    @overload
    def forward(
        self,
        images: Float[Tensor, "B channel *space"],
        *,
        latents: Float[Tensor, "B N latent"],
    ) -> tuple[Float[Tensor, "B N C *space"], Float[Tensor, "B N"]]: ...

    def forward(
        self,
        images: Tensor,
        masks: Tensor | None = None,
        unit: Tensor | None = None,
        latents: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits at the prior's mean; with masks a pass of training, with latents one of alignment.

        Args:
            images: network inputs.
            masks: 0 and 1, of one rater for every image; with them the latent is the posterior's.
            unit: standard normal numbers that the latent is made from.
            latents: N of every image.

        Returns:
            The logits; with masks also ``KL(posterior || prior)`` (0 without a latent), with latents
            the logarithm of their density under the prior.
        """
        features, prior = self.encode(images)
        if latents is not None:
            if prior is None:
                raise SegprefError("this Probabilistic U-Net has no latent: leave latents out")
            logits = self.decode(
                features.repeat_interleave(latents.shape[1], 0), latents.flatten(0, 1)
            )
            return logits.reshape(*latents.shape[:2], *logits.shape[1:]), prior.log_density(latents)
        if masks is None or unit is None:
            return self.decode(features, None if prior is None else prior.mean)
        if prior is None:
            return self.decode(features, None), images.new_zeros(len(images))
        joined = torch.cat([images, 2 * masks.to(images.dtype) - 1], dim=1)
        posterior: Gaussian = self.posterior(joined)
        return self.decode(features, posterior.sample(unit)), posterior.divergence(prior)

    def encode(
        self, images: Float[Tensor, "B channel *space"]
    ) -> tuple[Float[Tensor, "B feature *space"], Gaussian | None]:
        """What is computed once per image: the last features, and the prior where there is a latent.

        Raises:
            SegprefError: images that are not 2D, or whose sides do not fit.
        """
        if images.ndim != 4:
            raise SegprefError(
                f"a Probabilistic U-Net is for 2D images, not {images.ndim - 2}D: prepare with dims 2"
            )
        if any(side % self._multiple for side in images.shape[2:]):
            raise SegprefError(
                f"images of {tuple(images.shape[2:])} pixels do not fit this network, whose sides must "
                f"be multiples of {self._multiple}: set crop or size in the preparation"
            )
        features = torch.relu(self.unet(images))
        return features, self.prior(images) if self.latent else None

    def decode(
        self,
        features: Float[Tensor, "B feature *space"],
        latent: Float[Tensor, "B latent"] | None,
    ) -> Float[Tensor, "B C *space"]:
        """Logits of features and a latent, which is laid over all pixels."""
        if latent is not None:
            spread = latent[:, :, None, None].expand(-1, -1, *features.shape[2:])
            features = torch.cat([features, spread], dim=1)
        logits: Tensor = self.fuse(features)
        return logits
