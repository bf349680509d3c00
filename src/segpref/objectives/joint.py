"""Margins of policies whose masks hang on a latent: both are one answer.

Such a policy draws a latent z of an image and then a mask, ``p(y, z) = p(z) prod_i p(y_i | z)``. What
has been preferred are samples whose latents are known, so the log-likelihood of mask and latent is
exact, and no bound takes its place. The log-ratio of a pair is

    d = log p(z+) - log p(z-) + sum_i d_i        d_i = log p(y+_i | z+) - log p(y-_i | z-)

and a margin is ``reduce(d_policy) - reduce(d_reference)``, as for every other policy. It is not zero
where the masks agree, for the latents do not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from segpref.objectives.diffusion import reduce_map
from segpref.objectives.likelihood import Reduction, of_pairs
from segpref.types import Margins, Pairs

__all__ = ["JointLikelihood", "joint_margins"]


@dataclass(frozen=True, slots=True)
class JointLikelihood:
    """Log-likelihoods of winners (first) and losers (second) together with their latents, in nats.

    Args:
        pixels: ``log p(y_i | z)`` of every pixel.
        latents: ``log p(z)``.
    """

    pixels: Float[Tensor, "2 P *space"]
    latents: Float[Tensor, "2 P"]

    @classmethod
    def of(
        cls,
        logits: Float[Tensor, "2 P *space"],
        masks: UInt8[Tensor, "2 P *space"],
        latents: Float[Tensor, "2 P"],
    ) -> JointLikelihood:
        """Those of masks of 0 and 1 under logits of the one structure that each pair is about."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        entropy = functional.binary_cross_entropy_with_logits(
            wide, masks.to(wide.dtype), reduction="none"
        )
        return cls(-entropy, latents.to(wide.dtype))


def joint_margins(
    policy: JointLikelihood,
    reference: JointLikelihood,
    region: Bool[Tensor, "P *space"],
    pairs: Pairs,
    reduction: Reduction,
    *,
    likelihood: bool = False,
    reference_likelihood: bool = False,
) -> Margins:
    """Margins of pairs of samples.

    The density of the latents is divided by what the pixels are: ``|Omega|`` under ``image``, ``|R|``
    under ``region``, which hears only the pixels on which the masks differ.

    Args:
        policy: with its graph.
        reference: under the frozen reference, at the same latents.
        region: where winner and loser differ (R). A pair of equal masks has the margin 0 under
            ``region`` and should be left out.
        pairs: what the likelihoods are of.
        reduction: how they become margins.
        likelihood: whether the objective needs the winner's log-likelihood.
        reference_likelihood: the same under the reference.
    """
    support = torch.ones_like(region) if reduction == "image" else region

    def reduced(pixels: Tensor, latents: Tensor) -> Tensor:
        # Spread over the pixels that count, the latent's part is divided by what they are.
        share = latents / support.flatten(1).sum(1).clamp(min=1)
        spread = share.reshape(-1, *[1] * (pixels.ndim - 1)) * support
        return reduce_map(pixels + spread, region, reduction)

    def ratio(of: JointLikelihood) -> Tensor:
        return reduced(of.pixels[0] - of.pixels[1], of.latents[0] - of.latents[1])

    with torch.no_grad():
        before = ratio(reference)
        known = reduced(reference.pixels[0], reference.latents[0]) if reference_likelihood else None
    winner = reduced(policy.pixels[0], policy.latents[0]) if likelihood else None
    return replace(of_pairs(pairs, ratio(policy), before), winner=winner, reference_winner=known)
