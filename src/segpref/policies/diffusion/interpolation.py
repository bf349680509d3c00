"""Interpolation between the reference and the aligned model, chosen when masks are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from segpref.policies.diffusion.network import Context
from segpref.policies.diffusion.policy import AmbiSeg
from segpref.policies.diffusion.process import Process
from segpref.types import LabelSpace, SegprefError

__all__ = ["BlendedPredictions", "between", "interpolated"]


def interpolated(reference: nn.Module, aligned: nn.Module, w: float) -> nn.Module:
    """A network with the weights ``(1 - w) theta_ref + w theta``.

    ``w`` 0 is the reference, 1 the aligned model, and what lies beyond goes on in the same direction.
    At 0 and 1 the weights are bit for bit those of the model; integers, such as counters, are the
    aligned model's.

    Raises:
        SegprefError: the networks have different weights.
    """
    before, after = reference.state_dict(), aligned.state_dict()
    alike = before.keys() == after.keys() and all(
        value.shape == after[name].shape for name, value in before.items()
    )
    if not alike:
        raise SegprefError(
            "the reference and the aligned model are different networks: choose the model that the "
            "alignment began with"
        )
    blend = deepcopy(reference)
    blend.load_state_dict({name: _mixed(value, after[name], w) for name, value in before.items()})
    return blend


def between(
    reference: AmbiSeg,
    aligned: AmbiSeg,
    w: float,
    of: Literal["weights", "predictions"] = "weights",
) -> AmbiSeg | BlendedPredictions:
    """The model at ``w`` on the way from the reference (0) to the aligned model (1) and beyond.

    Args:
        reference: the start of the alignment.
        aligned: its end.
        w: how far.
        of: what is mixed: ``weights`` costs nothing when masks are drawn, ``predictions`` needs both
            networks at every step.

    Raises:
        SegprefError: the models are not of one kind.
    """
    if of == "weights":
        _check_alike(reference, aligned)
        network = interpolated(reference.inner, aligned.inner, w)
        return AmbiSeg(network, aligned.label_space, aligned.encoder)
    if of == "predictions":
        return BlendedPredictions(reference, aligned, w)
    raise SegprefError(f"weights or predictions are mixed, not {of!r}: correct it")


@dataclass(frozen=True, slots=True)
class BlendedContext:
    """What either model computes once per image and text."""

    reference: Context
    aligned: Context

    def rows(self, places: Int64[Tensor, " S"]) -> BlendedContext:
        """The context of every sample."""
        return BlendedContext(self.reference.rows(places), self.aligned.rows(places))


class BlendedPredictions:
    """Two models as one, whose prediction is ``(1 - w) f_ref + w f``.

    Each makes its latent with its own prior, from the same standard normal numbers.

    Args:
        reference: the start of the alignment.
        aligned: its end.
        w: how far.

    Raises:
        SegprefError: the models predict different things.
    """

    def __init__(self, reference: AmbiSeg, aligned: AmbiSeg, w: float) -> None:
        _check_alike(reference, aligned)
        self.reference, self.aligned, self.w = reference, aligned, w
        self.label_space: LabelSpace = aligned.label_space

    @property
    def process(self) -> Process:
        """That of both models."""
        return self.aligned.process

    @property
    def latent(self) -> int:
        """Length of the latent."""
        return self.aligned.latent

    @property
    def device(self) -> torch.device:
        """Where the aligned model is; both must be there."""
        return self.aligned.device

    @property
    def takes_text(self) -> bool:
        """Whether both do."""
        return self.reference.takes_text and self.aligned.takes_text

    @property
    def needs_text(self) -> bool:
        """Whether one of them does."""
        return self.reference.needs_text or self.aligned.needs_text

    def encode(
        self, images: Float[Tensor, "B channel *space"], texts: Sequence[str | None]
    ) -> BlendedContext:
        """What is computed once per image and text."""
        return BlendedContext(
            self.reference.encode(images, texts), self.aligned.encode(images, texts)
        )

    def denoise(
        self,
        context: BlendedContext,
        noisy: Float[Tensor, "S field *space"],
        time: Int64[Tensor, " S"],
        unit: Float[Tensor, "S latent"],
    ) -> Float[Tensor, "S field *space"]:
        """The mixed prediction."""
        before = self.reference.denoise(context.reference, noisy, time, unit)
        after = self.aligned.denoise(context.aligned, noisy, time, unit)
        return (1 - self.w) * before + self.w * after


def _check_alike(reference: AmbiSeg, aligned: AmbiSeg) -> None:
    if reference.process != aligned.process or reference.latent != aligned.latent:
        raise SegprefError(
            "the reference and the aligned model differ in their process or latent: choose the model "
            "that the alignment began with"
        )


def _mixed(before: Tensor, after: Tensor, w: float) -> Tensor:
    if not before.is_floating_point() or w == 1:
        return after.clone()
    if w == 0:
        return before.clone()
    return (1 - w) * before + w * after.to(before)
