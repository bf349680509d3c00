"""Segmenters that draw masks by a latent, and margins between their samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.networks import Gaussian, ProbabilisticUNet
from segpref.objectives.joint import JointLikelihood, joint_margins
from segpref.objectives.likelihood import Disagreement, Reduction
from segpref.policies.segmenter import Segmenter
from segpref.runtime import moved
from segpref.seeds import normals
from segpref.types import LabelSpace, Margins, SegprefError, Slate

__all__ = ["LATENT", "LatentMargins", "LatentSegmenter"]

LATENT = "segpref.policies.LatentSegmenter"
"""What the card of such a model says of its policy."""


class LatentSegmenter(Segmenter):
    """A :class:`~segpref.networks.ProbabilisticUNet`, aligned on preferences between its samples.

    As a segmenter it predicts at the prior's mean.

    Args:
        network: with a latent.
        label_space: what its outputs mean.

    Raises:
        SegprefError: a network without a latent.
    """

    aligned_by = "segpref.training.tasks.latents.LatentPreferences"
    draws_masks = True
    compiles = False

    def __init__(self, network: nn.Module, label_space: LabelSpace) -> None:
        super().__init__(network, label_space)
        if not isinstance(network, ProbabilisticUNet) or not network.latent:
            raise SegprefError(
                f"a {type(network).__name__} has no latent that masks could be drawn by: name a "
                "network of class segpref.networks.ProbabilisticUNet with a latent above 0"
            )

    def latents(
        self, images: Float[Tensor, "B channel *space"], seeds: Sequence[Sequence[int]]
    ) -> Float[Tensor, "B N latent"]:
        """Latents that :class:`~segpref.inference.LatentSampler` draws with these seeds.

        Args:
            images: network inputs.
            seeds: N per image.
        """
        with torch.no_grad():
            inner = self._inner
            assert isinstance(inner, ProbabilisticUNet)
            units = torch.stack([normals(of_image, inner.latent) for of_image in seeds])
            prior: Gaussian = inner.prior(moved(images, self.device))
            return prior.samples(moved(units, self.device))


@dataclass(frozen=True, slots=True)
class LatentMargins:
    """Margins of samples together with the latents that they were drawn by.

    Args:
        policy: what is tuned.
        reference: its frozen start.
        images: of the batch.
        latents: of each candidate of each slate, drawn from the reference's prior.
    """

    policy: LatentSegmenter
    reference: LatentSegmenter
    images: Float[Tensor, "B channel *space"]
    latents: Float[Tensor, "B K latent"]

    @property
    def logits(self) -> Float[Tensor, "B C *space"]:
        """There are none that would stand for all masks of an image.

        Raises:
            SegprefError: always.
        """
        raise SegprefError(
            "a model that draws masks by a latent has no logits that a mask could be held against: "
            "learn from preferences alone"
        )

    def zero(self) -> Tensor:
        """A zero that goes through the network, for a batch without a pair."""
        device = self.policy.device
        logits, densities = self.policy.network(
            moved(self.images[:1], device), latents=moved(self.latents[:1], device)
        )
        zero: Tensor = (logits.sum() + densities.sum()) * 0
        return zero

    def __call__(
        self,
        slates: Sequence[Slate],
        region: Disagreement,
        reduction: Reduction,
        *,
        likelihood: bool = False,
        reference_likelihood: bool = False,
    ) -> Margins:
        """Margins of ``region.pairs``, in their order; with the policy's graph.

        Args:
            slates: of the batch.
            region: the pairs.
            reduction: how log-ratios become margins.
            likelihood: whether the objective asks for the winner's log-likelihood.
            reference_likelihood: the same under the reference.
        """
        pairs = region.pairs
        sides = np.stack([pairs.winner, pairs.loser])
        told = zip(pairs.case, pairs.field, sides.T, strict=True)
        chosen = [slates[case].masks[both, field] for case, field, both in told]
        masks = moved(torch.from_numpy(np.stack(chosen, axis=1)), self.policy.device)

        def of(model: LatentSegmenter) -> JointLikelihood:
            device = model.device
            logits, densities = model.network(
                moved(self.images, device), latents=moved(self.latents, device)
            )
            case, field, side = (
                moved(torch.from_numpy(one), device) for one in (pairs.case, pairs.field, sides)
            )
            return JointLikelihood.of(logits[case, side, field], masks, densities[case, side])

        with torch.no_grad():
            before = of(self.reference)
        return joint_margins(
            of(self.policy),
            before,
            masks[0] != masks[1],
            pairs,
            reduction,
            likelihood=likelihood,
            reference_likelihood=reference_likelihood,
        )
