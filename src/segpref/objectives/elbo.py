"""The evidence lower bound of a conditional variational autoencoder of masks (Kohl et al., 2018)."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

__all__ = ["negative_elbo"]


def negative_elbo(
    logits: Float[Tensor, "B C *space"],
    masks: UInt8[Tensor, "B C *space"],
    divergence: Float[Tensor, " B"],
    beta: float = 1.0,
) -> Float[Tensor, " B"]:
    """``sum_i CE(logits_i, mask_i) + beta KL`` of every image (Kohl et al., 2018, Eq. 4), in nats.

    Cross-entropy is summed over pixels and structures, since it is minus the log-likelihood of the
    whole mask; a mean would weigh the divergence by the number of pixels. An empty mask counts like
    any other.

    Args:
        logits: at a latent of the posterior.
        masks: 0 and 1, of the rater whom the posterior has seen.
        divergence: ``KL(posterior || prior)``.
        beta: its weight.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    entropy = functional.binary_cross_entropy_with_logits(
        wide, masks.to(wide.dtype), reduction="none"
    )
    return entropy.flatten(1).sum(dim=1) + beta * divergence.to(wide.dtype)
