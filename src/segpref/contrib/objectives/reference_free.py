"""Reference-free losses: the policy's own preference is compared with a fixed target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from segpref.checking import checked
from segpref.objectives.checks import above_zero, at_least_zero, winner_of
from segpref.types import Margins

__all__ = ["ORPO", "SimPO"]

_LIKELIEST = -1e-6
"""Log-likelihoods above it count as this: the odds of a certain mask are infinite."""


@checked()
@dataclass(frozen=True, slots=True)
class SimPO:
    """Preference optimisation without a reference (Meng, Xia and Chen, 2024).

    ``-log sigmoid(beta m - gamma)``, where ``m`` is the policy part of the margin.

    For masks: the paper divides each log-likelihood by the length of its answer. Two masks of one
    image have the same length, so this is the reduction: with ``image`` ``m`` is the difference of
    the means over Omega, with ``region`` of those over R. The normaliser of the softmax cancels in it,
    so no likelihood is needed. Nothing holds the policy to its start but the learning rate.

    Args:
        beta: strength of the preference, above 0; 2 to 2.5 is usual for language models.
        gamma: target of ``beta m``, from 0; up to 1.5 is usual for language models.
    """

    beta: float = 2.0
    gamma: float = 0.5

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        at_least_zero("gamma", self.gamma)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        return -logsigmoid(self.beta * margins.policy - self.gamma)


@checked()
@dataclass(frozen=True, slots=True)
class ORPO:
    """Odds-ratio preference optimisation (Hong, Lee and Thorne, 2024, Eq. 4 and 7).

    ``-log p(y+) - lambda log sigmoid(log odds(y+) - log odds(y-))`` with ``odds = p / (1 - p)``.

    For masks: odds need a likelihood between 0 and 1 that is not that of thousands of pixels at
    once. The paper takes the mean over the answer's tokens in the exponent; so ``p`` is the
    geometric mean of the likelihoods of the pixels, ``exp`` of the log-likelihood under the reduction:
    over Omega for ``image``, over the disagreement region for ``region``. Nothing cancels, so this
    asks for the winner's likelihood (the loser's follows from it and the margin). With ``image``
    the agreed pixels take both likelihoods near 1, where the odds are steep. Log-likelihoods above
    -1e-6 count as that.

    Args:
        ratio_weight: lambda, the weight of the odds ratio, from 0; TRL calls it beta.
    """

    needs_likelihood: ClassVar[bool] = True

    ratio_weight: float = 0.1

    def __post_init__(self) -> None:
        at_least_zero("ratio_weight", self.ratio_weight)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        winner = winner_of(margins)
        ratio = _log_odds(winner) - _log_odds(winner - margins.policy)
        return -winner - self.ratio_weight * logsigmoid(ratio)


def _log_odds(log_p: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    log_p = log_p.clamp(max=_LIKELIEST)
    return log_p - torch.log(-torch.expm1(log_p))
