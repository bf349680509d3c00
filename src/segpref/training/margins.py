"""Sources of margins: for a policy with logits, its one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from segpref.objectives.likelihood import Disagreement, Reduction, margins
from segpref.objectives.mask_likelihood import whole_log_likelihood, winner_log_likelihood
from segpref.runtime import moved
from segpref.types import LabelSpace, Margins, Slate

__all__ = ["LogitMargins", "MarginSource"]


class MarginSource(Protocol):
    """Says of a batch by how much policy and reference prefer each winner to its loser.

    :class:`LogitMargins`, or
    :class:`~segpref.policies.diffusion.margins.DenoisingMargins` for a diffusion model.
    """

    @property
    def logits(self) -> Float[Tensor, "B C *space"]:
        """The policy's, with their graph; a SegprefError where it has none."""
        ...

    def zero(self) -> Tensor:
        """A zero with the graph of a loss, for a batch without a pair."""
        ...

    def __call__(
        self,
        slates: Sequence[Slate],
        region: Disagreement,
        reduction: Reduction,
        *,
        likelihood: bool = False,
        reference_likelihood: bool = False,
    ) -> Margins:
        """Margins of ``region.pairs``, at least one, with their weights and groups.

        Args:
            slates: of the batch.
            region: the pairs, and where their masks differ.
            reduction: how maps become margins.
            likelihood: whether the winner's log-likelihood under the policy is asked for.
            reference_likelihood: the same under the reference.
        """
        ...


@dataclass(frozen=True, slots=True)
class LogitMargins:
    """Margins of a policy that factorises over pixels: a linear function of its logits.

    Args:
        logits: of the policy, with their graph.
        reference: logits of the frozen reference.
        label_space: what the masks mean.
    """

    logits: Float[Tensor, "B C *space"]
    reference: Float[Tensor, "B C *space"]
    label_space: LabelSpace

    def zero(self) -> Tensor:
        """A zero that touches the logits."""
        return self.logits.sum() * 0

    def __call__(
        self,
        slates: Sequence[Slate],
        region: Disagreement,
        reduction: Reduction,
        *,
        likelihood: bool = False,
        reference_likelihood: bool = False,
    ) -> Margins:
        """Margins, and no more than is asked for besides.

        Of a mask that is judged as a whole (:func:`~segpref.objectives.disagreement`) they are the
        means of its log-likelihood over Omega, under every reduction.
        """
        found = margins(self.logits, self.reference, region.to(self.logits.device), reduction)
        # Of the region on the host: no device need be waited for to know what is in it.
        if region.whole.any():
            whole = moved(region.whole, self.logits.device)
            policy = whole_log_likelihood(self.logits, slates, region, self.label_space)
            with torch.no_grad():
                before = whole_log_likelihood(self.reference, slates, region, self.label_space)
            found = replace(
                found,
                policy=torch.where(whole, policy, found.policy),
                reference=torch.where(whole, before.to(policy), found.reference),
            )
        ask = (slates, region, self.label_space, reduction)
        if likelihood:
            found = replace(found, winner=winner_log_likelihood(self.logits, *ask))
        if reference_likelihood:
            with torch.no_grad():
                winner = winner_log_likelihood(self.reference, *ask)
            found = replace(found, reference_winner=winner)
        return found
