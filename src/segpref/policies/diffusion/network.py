"""AmbiSeg's denoiser: a U-Net on image, noisy mask, text and latent (TDG-DiffDPO, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from segpref.checking import checked
from segpref.extras import needed
from segpref.networks import Gaussian, GaussianEncoder
from segpref.policies.diffusion.process import Prediction, Process
from segpref.policies.diffusion.text import Words
from segpref.runtime import moved
from segpref.types import SegprefError

__all__ = ["AmbiSegNetwork", "Context"]


@dataclass(frozen=True, slots=True)
class Context:
    """What is computed once per image and text, whatever the number of samples and steps.

    Args:
        images: network inputs.
        words: projected embeddings of the text.
        there: where there is a token.
        prior: of the latent, or None without one.
    """

    images: Float[Tensor, "B channel *space"]
    words: Float[Tensor, "B token cross"]
    there: Bool[Tensor, "B token"]
    prior: Gaussian | None

    def rows(self, places: Int64[Tensor, " S"]) -> Context:
        """The context of every sample, given the place of its image and text."""
        return replace(
            self,
            images=self.images[places],
            words=self.words[places],
            there=self.there[places],
            prior=None if self.prior is None else self.prior.rows(places),
        )


@checked(
    in_channels={"least": 1},
    out_channels={"least": 1},
    channels={"least": 1},
    layers={"least": 1},
    heads={"least": 1},
    patch={"least": 1},
    cross={"least": 1},
    text_width={"least": 1},
    latent={"least": 0},
    latent_channels={"least": 1},
)
class AmbiSegNetwork(nn.Module):
    """Conditional denoiser, with the prior and posterior of the latent that represents the rater.

    The image and the noisy mask are joined along the channel axis. The text enters by cross-attention,
    its frozen embeddings projected linearly. What the paper's KL term is between, it does not say;
    here it is a Gaussian latent, posterior from (image, mask, text), prior from (image, text), that is
    added to the embedding of the time step.

    The U-Net is diffusers' ``UNet2DConditionModel``, so images are 2D. Every level halves the
    resolution.

    Args:
        in_channels: channels of the image.
        out_channels: fields of the mask.
        channels: features per level of the U-Net; multiples of 8.
        attention: which levels attend to themselves and to the text; only the lowest where None, for
            attention at full resolution is what costs.
        middle_attention: whether the middle of the U-Net attends, too.
        layers: residual blocks per level.
        heads: attention heads.
        patch: sides of the squares of pixels that become channels before the U-Net and pixels again
            behind it; 2 takes about half the time of 1.
        cross: length of the projected embeddings.
        text_encoder: name of the frozen encoder, or None for a model without text.
        text_width: length of its embeddings.
        latent: length of the latent; 0 for none (and no KL term).
        latent_channels: features of the prior's and posterior's networks.
        timesteps: steps T of the process (:class:`~segpref.policies.diffusion.process.Process`).
        first_beta: beta at the first step.
        last_beta: beta at the last step.
        prediction: what is predicted: the noise, the mask, or v.
        scale: of the masks, above 0 and at most 1; less makes denoising harder.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128),
        attention: Sequence[bool] | None = None,
        middle_attention: bool = True,
        layers: int = 1,
        heads: int = 4,
        patch: int = 1,
        cross: int = 128,
        text_encoder: str | None = "emilyalsentzer/Bio_ClinicalBERT",
        text_width: int = 768,
        latent: int = 6,
        latent_channels: int = 32,
        timesteps: int = 1000,
        first_beta: float = 1e-4,
        last_beta: float = 0.02,
        prediction: Prediction = "x0",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        attends = [*[False] * (len(channels) - 1), True] if attention is None else list(attention)
        if len(attends) != len(channels):
            raise SegprefError(
                f"attention has {len(attends)} entries for {len(channels)} levels: give one per level"
            )
        self.process = Process(timesteps, first_beta, last_beta, prediction, scale)
        self.fields, self.latent, self.patch = out_channels, latent, patch
        self.text_encoder, self.text_width = text_encoder, text_width
        self._multiple = patch * 2 ** (len(channels) - 1)
        down = ["CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attends]
        up = ["CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attends)]
        middle = "UNetMidBlock2DCrossAttn" if middle_attention else "UNetMidBlock2D"
        self.unet: Any = needed("diffusers", "diffusion").UNet2DConditionModel(
            in_channels=(in_channels + out_channels) * patch**2,
            out_channels=out_channels * patch**2,
            block_out_channels=tuple(channels),
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            mid_block_type=middle,
            layers_per_block=layers,
            attention_head_dim=heads,
            cross_attention_dim=cross,
            norm_num_groups=8,
            class_embed_type="simple_projection" if latent else None,
            projection_class_embeddings_input_dim=latent or None,
        )
        #: Stands for "no text" in cross-attention. Without a text encoder it is all there is; with one
        #: it stays zero until a step of training has an image without text.
        self.silence = nn.Parameter(torch.zeros(1, 1, cross))
        self.project = nn.Linear(text_width, cross) if text_encoder is not None else None
        if latent:
            self.prior = GaussianEncoder(in_channels, latent_channels, latent, cross)
            self.posterior = GaussianEncoder(
                in_channels + out_channels, latent_channels, latent, cross
            )

    @property
    def knows_silence(self) -> bool:
        """Whether it can go without a text: none is asked for, or training had images without one."""
        return self.text_encoder is None or bool(self.silence.detach().any())

    def forward(
        self,
        images: Float[Tensor, "B channel *space"],
        words: Words | None,
        noisy: Float[Tensor, "B field *space"],
        time: Int64[Tensor, " B"],
        unit: Float[Tensor, "B latent"],
        masks: Float[Tensor, "B field *space"] | None = None,
    ) -> tuple[Float[Tensor, "B field *space"], Float[Tensor, " B"]]:
        """One pass of training.

        Args:
            images: network inputs.
            words: of the text encoder, or None without text.
            noisy: noised masks.
            time: steps, from 0.
            unit: standard normal numbers that the latent is made from.
            masks: -1 and +1; with them the latent is the posterior's, without them the prior's.

        Returns:
            The prediction, and the KL divergence of posterior and prior (0 where no mask is given).
        """
        context = self.encode(images, words)
        divergence = images.new_zeros(len(images))
        if masks is None or context.prior is None:
            return self.denoise(context, noisy, time, unit), divergence
        summary = _summary(context.words, context.there)
        posterior = self.posterior(torch.cat([images, masks], dim=1), summary)
        divergence = posterior.divergence(context.prior)
        return self._predict(context, noisy, time, posterior.sample(unit)), divergence

    def encode(self, images: Float[Tensor, "B channel *space"], words: Words | None) -> Context:
        """Image and text, ready for any number of denoising passes."""
        self._check(images)
        batch = len(images)
        silence = self.silence.expand(batch, -1, -1)
        if self.project is None or words is None:
            projected, there = silence, images.new_ones(batch, 1, dtype=torch.bool)
        else:
            embedded, there = words
            projected = self.project(moved(embedded.to(images.dtype), images.device))
            there = moved(there, images.device)
            # A row without a word attends to the token for silence.
            mute = ~there.any(dim=1)
            projected = torch.cat([silence, projected], dim=1)
            there = torch.cat([mute[:, None], there], dim=1)
        prior = self.prior(images, _summary(projected, there)) if self.latent else None
        return Context(images, projected, there, prior)

    def denoise(
        self,
        context: Context,
        noisy: Float[Tensor, "B field *space"],
        time: Int64[Tensor, " B"],
        unit: Float[Tensor, "B latent"],
    ) -> Float[Tensor, "B field *space"]:
        """Prediction with a latent from the prior."""
        latent = None if context.prior is None else context.prior.sample(unit)
        return self._predict(context, noisy, time, latent)

    def _predict(
        self, context: Context, noisy: Tensor, time: Tensor, latent: Tensor | None
    ) -> Tensor:
        joined = torch.cat([context.images, noisy], dim=1)
        output = self.unet(
            functional.pixel_unshuffle(joined, self.patch),
            time,
            encoder_hidden_states=context.words,
            encoder_attention_mask=context.there,
            class_labels=latent,
        ).sample
        return functional.pixel_shuffle(output, self.patch)

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4:
            raise SegprefError(
                f"this diffusion model is for 2D images, not {images.ndim - 2}D: prepare with dims 2"
            )
        if any(side % self._multiple for side in images.shape[2:]):
            raise SegprefError(
                f"images of {tuple(images.shape[2:])} pixels do not fit this network, whose sides must "
                f"be multiples of {self._multiple}: set crop or size in the preparation"
            )


def _summary(words: Tensor, there: Tensor) -> Tensor:
    weight = there[..., None].to(words.dtype)
    return (words * weight).sum(dim=1) / weight.sum(dim=1)
