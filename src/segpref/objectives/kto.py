"""Learning from single masks that are accepted or rejected (Ethayarajh et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from segpref.checking import checked
from segpref.objectives.checks import above_zero
from segpref.types import Margins

__all__ = ["KTO"]


@checked()
@dataclass(frozen=True, slots=True)
class KTO:
    """Kahneman-Tversky optimisation (Ethayarajh et al., 2024).

    Of a mask that is accepted ``w_D (1 - s(beta (r - z)))``, of one that is rejected
    ``w_U (1 - s(beta (z - r)))``, with ``r = log pi(y) / pi_ref(y)`` and ``z`` the reference point, how
    far the policy has come from the reference: what is better than that counts as a gain.

    For masks: ``r`` is the margin of the mask against the anchor, the model's own prediction, so it is
    about the pixels in which the two differ. Where the mask *is* the anchor there are none, and ``r``
    is the log-ratio of the whole mask, the mean over Omega under every reduction; where one structure
    of an exclusive label map was asked about, of this structure's own mask.

    **Batch statistics**: ``z = max(0, mean r)`` over all masks of the step, without a gradient. The
    paper estimates the divergence of policy and reference from answers to other prompts of the batch;
    the mask of another image says nothing about this one, so the masks are those that were judged.

    Pairs that were mined have no ``target``: all their winners count as accepted, against their losers.

    Args:
        beta: strength of the preference, above 0.
        desirable_weight: w_D, above 0. The authors advise ``w_D n_D / (w_U n_U)`` from 1 to 4/3, with
            the numbers of accepted and rejected masks.
        undesirable_weight: w_U, above 0.
    """

    soft_targets: ClassVar[bool] = True
    single_masks: ClassVar[bool] = True

    beta: float = 1.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        above_zero("desirable_weight", self.desirable_weight)
        above_zero("undesirable_weight", self.undesirable_weight)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every mask, from 0 to its weight."""
        ratio = margins.difference
        point = ratio.detach().mean().clamp(min=0)
        # 1 - s(x) is s(-x), which keeps its digits where x is large.
        accepted = self.desirable_weight * torch.sigmoid(self.beta * (point - ratio))
        if margins.target is None:
            return accepted
        rejected = self.undesirable_weight * torch.sigmoid(self.beta * (ratio - point))
        return margins.target * accepted + (1 - margins.target) * rejected
