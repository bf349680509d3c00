"""From mined pairs to margins: one pass of the policy, one of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.objectives.diffusion import BetaConvention, diffusion_margins
from segpref.objectives.likelihood import Reduction
from segpref.policies.diffusion.policy import AmbiSeg, draw
from segpref.types import Margins, Pairs, Slate

__all__ = ["DenoisingMargins"]


@dataclass(frozen=True, slots=True)
class DenoisingMargins:
    """Margins of pairs under one draw of noise, time and latent per pair (TDG-DiffDPO, Eq. 7).

    Args:
        policy: what is tuned.
        reference: its frozen start. Nothing of it can be kept, for every draw is new.
        convention: what the objective's beta is meant for, see
            :data:`~segpref.objectives.diffusion.BetaConvention`.
        safeguard: share of the winner's progress that the loser may not take away, see
            :func:`~segpref.objectives.diffusion.safe_scale`; None for no safeguard.
    """

    policy: AmbiSeg
    reference: AmbiSeg
    convention: BetaConvention = "half-mean"
    safeguard: float | None = None

    def __call__(
        self,
        images: Float[Tensor, "B channel *space"],
        prompts: Sequence[str | None],
        slates: Sequence[Slate],
        pairs: Pairs,
        rngs: Sequence[np.random.Generator],
        reduction: Reduction,
        likelihood: bool = False,
    ) -> Margins:
        """Margins of the pairs, in their order; with the policy's graph.

        Args:
            images: of the batch.
            prompts: the text under which each slate was sampled.
            slates: of the batch.
            pairs: at least one; pairs of equal masks have the margin 0 and should be left out.
            rngs: one per image, from which the draws of its pairs come.
            reduction: how maps become margins.
            likelihood: whether the objective asks for the winner's log-likelihood.
        """
        masks = [
            [slates[c].masks[k] for c, k in zip(pairs.case, side, strict=True)]
            for side in (pairs.winner, pairs.loser)
        ]
        both = torch.from_numpy(np.asarray(masks))
        shape = tuple(both.shape[2:])
        drawn = draw(
            [rngs[c] for c in pairs.case], shape, self.policy.process.timesteps, self.policy.latent
        )
        ask = (images[torch.from_numpy(pairs.case)], [prompts[c] for c in pairs.case], both, drawn)
        with torch.no_grad():
            before = self.reference.residuals(*ask)
        after = self.policy.residuals(*ask)
        # A preference is about one field; the masks' other fields are their context.
        rows, fields = torch.arange(len(pairs)), torch.from_numpy(pairs.field)
        winner, loser = both[:, rows, fields].to(after.device)
        return diffusion_margins(
            after[:, rows, fields],
            before[:, rows, fields],
            winner != loser,
            torch.as_tensor(pairs.gap),
            reduction,
            convention=self.convention,
            safeguard=self.safeguard,
            likelihood=likelihood,
        )
