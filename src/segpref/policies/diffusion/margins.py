"""From mined pairs to margins: one pass of the policy, one of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from segpref.objectives.diffusion import BetaConvention, diffusion_margins
from segpref.objectives.likelihood import Disagreement, Reduction
from segpref.policies.diffusion.policy import AmbiSeg, Draw, draw
from segpref.runtime import moved
from segpref.types import Margins, SegprefError, Slate

__all__ = ["DenoisingMargins"]

Rows = Sequence[int] | Int64[np.ndarray, " P"]


@dataclass(frozen=True, slots=True)
class DenoisingMargins:
    """Margins under one draw of noise, time and latent per pair (TDG-DiffDPO, Eq. 7).

    Args:
        policy: what is tuned.
        reference: its frozen start. Nothing of it can be kept, for every draw is new.
        images: of the batch.
        prompts: the text under which each slate was sampled.
        rngs: one per image, from which the draws of its pairs come.
        convention: what the objective's beta is meant for, see
            :data:`~segpref.objectives.diffusion.BetaConvention`.
        safeguard: share of the winner's progress that the loser may not take away, see
            :func:`~segpref.objectives.diffusion.safe_scale`; None for no safeguard.
    """

    policy: AmbiSeg
    reference: AmbiSeg
    images: Float[Tensor, "B channel *space"]
    prompts: Sequence[str | None]
    rngs: Sequence[np.random.Generator]
    convention: BetaConvention = "half-mean"
    safeguard: float | None = None

    @property
    def logits(self) -> Float[Tensor, "B C *space"]:
        """There are none.

        Raises:
            SegprefError: always.
        """
        raise SegprefError(
            "a diffusion model has no logits that a mask could be held against: learn from preferences "
            "alone"
        )

    def zero(self) -> Tensor:
        """A zero that goes through the network, for a batch without a pair."""
        shape = (1, 1, self.policy.label_space.fields, *self.images.shape[2:])
        masks = torch.zeros(shape, dtype=torch.uint8)
        return self._residuals(self.policy, [0], masks, self._draw([0], masks)).sum() * 0

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
            reduction: how maps become margins.
            likelihood: whether the objective asks for the winner's log-likelihood.
            reference_likelihood: the same under the reference.
        """
        pairs = region.pairs
        masks = [
            [slates[c].masks[k] for c, k in zip(pairs.case, side, strict=True)]
            for side in (pairs.winner, pairs.loser)
        ]
        both = torch.from_numpy(np.asarray(masks))
        drawn = self._draw(pairs.case, both)
        with torch.no_grad():
            before = self._residuals(self.reference, pairs.case, both, drawn)
        after = self._residuals(self.policy, pairs.case, both, drawn)
        # A preference is about one field; the masks' other fields are their context.
        rows, fields = torch.arange(len(pairs)), torch.from_numpy(pairs.field)
        winner, loser = moved(both[:, rows, fields], after.device)
        rows, fields = moved(rows, after.device), moved(fields, after.device)
        return diffusion_margins(
            after[:, rows, fields],
            before[:, rows, fields],
            winner != loser,
            pairs,
            reduction,
            convention=self.convention,
            safeguard=self.safeguard,
            likelihood=likelihood,
            reference_likelihood=reference_likelihood,
        )

    def _draw(self, rows: Rows, masks: UInt8[Tensor, "S P field *space"]) -> Draw:
        process, latent = self.policy.process, self.policy.latent
        return draw([self.rngs[i] for i in rows], masks.shape[2:], process.timesteps, latent)

    def _residuals(
        self, model: AmbiSeg, rows: Rows, masks: UInt8[Tensor, "S P field *space"], drawn: Draw
    ) -> Float[Tensor, "S P field *space"]:
        images = self.images[torch.as_tensor(np.asarray(rows))]
        return model.residuals(images, [self.prompts[i] for i in rows], masks, drawn)
