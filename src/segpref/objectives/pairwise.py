"""Losses on single margins, one small object each: DPO, IPO and robust DPO.

RN-DPO is none of them: it is :class:`DPO` on margins that were reduced over the disagreement region.
Every loss is a function of ``Delta``, the policy part of a margin minus its reference part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from segpref.checking import checked
from segpref.objectives.checks import above_zero, below_half
from segpref.objectives.groups import grouped
from segpref.objectives.soft_targets import both_orders
from segpref.types import Margins, Objective

__all__ = [
    "DPO",
    "IPO",
    "RobustDPO",
    "update_strength",
]

_HIGHEST = 0.4
"""Of the flip rates of single pairs, for robust DPO."""


@checked()
@dataclass(frozen=True, slots=True)
class DPO:
    """Direct preference optimisation (Rafailov et al., 2023).

    ``-log sigmoid(beta Delta)`` (Eq. 5; Eq. 11 on margins reduced over the region).

    Args:
        beta: strength of the preference, above 0.
    """

    soft_targets: ClassVar[bool] = True

    beta: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        return both_orders(lambda delta: -logsigmoid(self.beta * delta), margins)


@checked()
@dataclass(frozen=True, slots=True)
class IPO:
    """Identity preference optimisation (Azar et al., 2024, Eq. 17).

    ``(Delta - 1 / (2 beta))^2``: the margin is drawn to a finite target instead of to infinity.

    Args:
        beta: strength of the regularisation, above 0; the authors call it tau.
    """

    soft_targets: ClassVar[bool] = True

    beta: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        return both_orders(lambda delta: (delta - 1 / (2 * self.beta)) ** 2, margins)


@checked()
@dataclass(frozen=True, slots=True)
class RobustDPO:
    """DPO that is unbiased when preferences flip at random: rDPO (Chowdhury et al., 2024).

    ``((1 - e) L(Delta) - e L(-Delta)) / (1 - 2 e)`` with ``L = -log sigmoid(beta .)`` and ``e`` the
    flip rate: its mean over flips is DPO's loss of the true preference. Margins that bring their own
    flip rates, such as those of votes, are taken at these, up to 0.4: at 1/2 there is no unbiased loss,
    and nearby it is as noisy as it is large.

    Args:
        beta: strength of the preference, above 0.
        flip_rate: share of preferences thought to be the wrong way round, from 0 to below 1/2.
    """

    soft_targets: ClassVar[bool] = True

    beta: float = 1.0
    flip_rate: float = 0.1

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        below_half("flip_rate", self.flip_rate)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair; may be negative."""
        own = margins.flip_rate
        e: float | Tensor = self.flip_rate if own is None else own.clamp(max=_HIGHEST)

        def loss(delta: Tensor) -> Tensor:
            h = self.beta * delta
            return (e * logsigmoid(-h) - (1 - e) * logsigmoid(h)) / (1 - 2 * e)

        return both_orders(loss, margins)


def update_strength(margins: Margins, objective: Objective) -> Float[Tensor, " P"]:
    """How hard each pair pulls: ``|d loss / d Delta|``, without a graph.

    For DPO it is ``beta sigmoid(-beta Delta)``, the factor ``w`` of Eq. 13. Taken by autograd, so it
    holds for any objective; with an objective that mixes the pairs of a batch it is the pull on a
    pair's margin of the batch's summed loss, and within a group the pull on each margin of it. The
    winner's likelihood is held fixed, so of RPO and ORPO it is the pull through the margin, and 0 of an
    objective that holds no two masks against each other.
    """
    winner = None if margins.winner is None else margins.winner.detach()
    with torch.enable_grad():
        policy = margins.policy.detach().requires_grad_()
        leaf = replace(margins, policy=policy, reference=margins.reference.detach(), winner=winner)
        (slope,) = torch.autograd.grad(objective(grouped(leaf)).sum() + 0 * policy.sum(), policy)
    return slope.abs()
