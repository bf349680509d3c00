"""Losses that bound the effect of a wrong preference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from segpref.checking import checked
from segpref.objectives.checks import above_zero
from segpref.objectives.soft_targets import both_orders
from segpref.types import Margins

__all__ = ["DrDPO", "RampLoss", "SigmoidLoss"]


@checked()
@dataclass(frozen=True, slots=True)
class SigmoidLoss:
    """The sigmoid loss of symmetric preference optimisation, SymPO (Nishimori et al., 2025).

    ``l(z) = sigmoid(-z)`` with ``z = beta Delta``. It is symmetric, ``l(z) + l(-z) = 1``: if every
    preference is flipped with the same probability below 1/2, the expected loss is the clean one
    times a factor plus a constant, whatever the rate. The gradient vanishes at both ends, so a pair
    that the policy holds for wrong is given up instead of being pulled ever harder.

    Args:
        beta: strength of the preference, above 0.
    """

    soft_targets: ClassVar[bool] = True

    beta: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair, from 0 to 1."""
        return both_orders(lambda delta: torch.sigmoid(-self.beta * delta), margins)


@checked()
@dataclass(frozen=True, slots=True)
class RampLoss:
    """The ramp loss of symmetric preference optimisation, SymPO (Nishimori et al., 2025).

    ``l(z) = min(1, max(0, (1 - z) / 2))`` with ``z = beta Delta``: symmetric, ``l(z) + l(-z) = 1``,
    as :class:`SigmoidLoss` is. Pairs beyond ``|z| = 1`` have no gradient at all.

    Args:
        beta: strength of the preference, above 0; the ramp ends at margins of +-1 / beta.
    """

    soft_targets: ClassVar[bool] = True

    beta: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair, from 0 to 1."""
        return both_orders(lambda delta: ((1 - self.beta * delta) / 2).clamp(0, 1), margins)


@checked()
@dataclass(frozen=True, slots=True)
class DrDPO:
    """Distributionally robust DPO (Wu et al., 2025: Dr. DPO).

    ``-beta' log mean_i exp(-L_i / beta')`` with ``L_i`` DPO's loss of pair i: pairs with a large
    loss, the likely flips, count less, by ``exp(-L_i / beta')``. As ``beta'`` goes to infinity it is
    the mean of ``L_i``.

    **Batch statistics**: one number for all pairs of a batch. Every pair is given that number, so
    that the mean over pairs is the loss of the paper. One pair alone has DPO's loss.

    Args:
        beta: strength of the preference, above 0.
        beta_prime: how much large losses are trusted, above 0.
    """

    beta: float = 1.0
    beta_prime: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        above_zero("beta_prime", self.beta_prime)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of the batch, for every pair of it."""
        agreement = logsigmoid(self.beta * margins.difference) / self.beta_prime
        log_mean = torch.logsumexp(agreement, 0) - math.log(max(1, len(agreement)))
        return (-self.beta_prime * log_mean).expand_as(agreement)
