"""More losses on single margins: cDPO, SLiC's hinge, and DPO with the winner's likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from segpref.checking import checked
from segpref.objectives.checks import above_zero, at_least_zero, below_half, winner_of
from segpref.objectives.soft_targets import both_orders
from segpref.types import Margins

__all__ = ["RPO", "ConservativeDPO", "Hinge"]


@checked()
@dataclass(frozen=True, slots=True)
class ConservativeDPO:
    """DPO with smoothed preferences: cDPO (Mitchell, 2023).

    ``(1 - e) L(Delta) + e L(-Delta)`` with ``L = -log sigmoid(beta .)`` and ``e`` the smoothing;
    least where ``sigmoid(beta Delta) = 1 - e``.

    Args:
        beta: strength of the preference, above 0.
        label_smoothing: share of preferences thought to be wrong, from 0 to below 1/2.
    """

    soft_targets: ClassVar[bool] = True

    beta: float = 1.0
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        below_half("label_smoothing", self.label_smoothing)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        e = self.label_smoothing

        def loss(delta: Tensor) -> Tensor:
            h = self.beta * delta
            return -(1 - e) * logsigmoid(h) - e * logsigmoid(-h)

        return both_orders(loss, margins)


@checked()
@dataclass(frozen=True, slots=True)
class Hinge:
    """Hinge loss on the margin, as in SLiC (Zhao et al., 2023): ``max(0, 1 - beta Delta)``.

    Args:
        beta: strength of the preference, above 0; the loss ends at a margin of 1 / beta.
    """

    soft_targets: ClassVar[bool] = True

    beta: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        return both_orders(lambda delta: torch.relu(1 - self.beta * delta), margins)


@checked()
@dataclass(frozen=True, slots=True)
class RPO:
    """DPO that also makes the winner more likely, as in Iterative RPO (Pang et al., 2024).

    ``-log sigmoid(beta Delta) - alpha log pi(y+)``. DPO alone may lower the likelihood of both masks.

    For masks: the paper divides the second term by the length of the answer; here it is the winner's
    log-likelihood per pixel under the reduction of the margins, over Omega for ``image`` and over
    the disagreement region alone for ``region``. With ``image`` the second term is the cross-entropy
    with the winner as a pseudo-label, also on the pixels on which both masks agree.

    Args:
        beta: strength of the preference, above 0.
        alpha: weight of the winner's negative log-likelihood, from 0 (DPO).
    """

    needs_likelihood: ClassVar[bool] = True

    beta: float = 1.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        at_least_zero("alpha", self.alpha)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        return -logsigmoid(self.beta * margins.difference) - self.alpha * winner_of(margins)
