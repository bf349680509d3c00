"""Losses whose strength or target depends on the other pairs of the batch.

All four use statistics of the batch's margins, without a gradient through them. With several processes
the batch is that of the step, whichever process an image falls to
(:mod:`~segpref.objectives.step`). The authors keep moving averages
over steps as well; an objective here is a pure function, so that a resumed run gives the
same result, and takes the batch alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from segpref.checking import checked
from segpref.contrib.objectives.targets import optimal_shares
from segpref.objectives.checks import above_zero, at_least_zero, share
from segpref.types import Margins, SegprefError

__all__ = ["AMaPO", "AlphaDPO", "BetaDPO", "GammaPO"]

_SPREAD = 1e-6
"""Margins that differ by less are taken for equal: at the start of stage 2 all are 0."""


@checked()
@dataclass(frozen=True, slots=True)
class BetaDPO:
    """DPO with a beta for every batch: beta-DPO (Wu et al., 2024).

    ``-log sigmoid(beta_batch Delta)``, ``beta_batch = beta (1 + alpha (mean Delta - threshold))``,
    at least ``beta / 1000``: a batch of pairs that are far apart is held nearer to the reference.

    ``keep`` below 1 is the paper's filter of outliers: that share of the pairs, whose margins are
    nearest to the batch's mean, is learned from; the others have the loss 0, and the kept losses are
    scaled so that the mean over the batch is theirs. The mean in ``beta_batch`` is of the kept.

    **Batch statistics.** One pair alone has the beta of its own margin. Departures: the paper's
    threshold is a moving average of the mean, ours a setting (see the module); it draws the kept
    pairs with Gaussian weights about that average, we keep the likeliest.

    Args:
        beta: strength of the preference where the mean margin is ``threshold``, above 0.
        alpha: how much beta follows the mean margin, from 0 (DPO).
        threshold: mean margin at which the batch's beta is ``beta``. It has no default, for no number
            suits all: where the mean margin is ``1 / alpha`` below it, nothing is learned. Take the
            mean margin of a run with :class:`~segpref.objectives.DPO` (``margin`` in ``metrics.csv``,
            before ``beta``), or a lower number.
        keep: share of the pairs that are learned from, above 0; the authors take 0.8.

    Raises:
        SegprefError: there is no threshold, or a setting out of its range.
    """

    beta: float = 1.0
    alpha: float = 0.6
    threshold: float | None = None
    keep: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        at_least_zero("alpha", self.alpha)
        share("keep", self.keep)
        if self.threshold is None:
            raise SegprefError(
                "BetaDPO needs a threshold, the mean margin at which beta is what was given: take the "
                "mean margin of a run with DPO (column margin of its metrics.csv) or a lower number; "
                "with one above all margins nothing is learned"
            )
        if not math.isfinite(self.threshold):
            raise SegprefError(
                f"the objective's threshold must be a finite number, not {self.threshold}"
            )

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        assert self.threshold is not None
        delta = margins.difference
        fixed = delta.detach()
        kept = self._kept(fixed)
        lead = (fixed * kept).mean() - self.threshold
        beta = self.beta * (1 + self.alpha * lead).clamp(min=1e-3)
        return -logsigmoid(beta * delta) * kept

    def _kept(self, delta: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """1 for all pairs, or P / kept for the kept ones and 0 for the others."""
        number = math.ceil(self.keep * len(delta))
        if number == len(delta):
            return torch.ones_like(delta)
        # Stable, so that equal margins do not depend on the device's sort.
        nearest = (delta - delta.mean()).abs().argsort(stable=True)[:number]
        kept = torch.zeros_like(delta)
        kept[nearest] = len(delta) / number
        return kept


@checked()
@dataclass(frozen=True, slots=True)
class AlphaDPO:
    """SimPO with a target that the reference adapts: alpha-DPO (Wu et al., 2024).

    ``-log sigmoid(beta m - (gamma + alpha z))``, ``m`` the policy part of the margin and
    ``z = (Delta - mean Delta) / std Delta``: pairs in which the policy has gone further beyond the
    reference than others are given a higher target. With alpha 0 this is SimPO.

    As understood from the paper, ``alpha z`` is added to ``gamma``; the authors' released code
    multiplies it by beta as well, and takes moving averages of mean and deviation. For masks: their
    normalisation by length is the reduction, as in :class:`~segpref.objectives.SimPO`.

    **Batch statistics.** One pair alone, and pairs with equal margins, have ``z = 0``.

    Args:
        beta: strength of the preference, above 0.
        gamma: target of ``beta m`` for the mean pair, from 0.
        alpha: how much the target follows the reference, from 0 (SimPO).
    """

    beta: float = 2.0
    gamma: float = 0.5
    alpha: float = 0.1

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        at_least_zero("gamma", self.gamma)
        at_least_zero("alpha", self.alpha)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        target = self.gamma + self.alpha * _standard(margins.difference.detach())
        return -logsigmoid(self.beta * margins.policy - target)


@checked()
@dataclass(frozen=True, slots=True)
class GammaPO:
    """DPO with a target for every pair, higher for clear pairs: gamma-PO (Sun et al., 2025).

    ``-log sigmoid(r_i - (gamma_i - gamma))``, ``r_i = beta Delta_i``. The targets have the mean
    ``gamma`` over the batch and are those that minimise

        ``mean_i -log sigmoid(r_i - gamma_i)  +  tau KL(gamma_i / (P gamma), uniform)``

    so that clear pairs get a higher target than those with a small margin, which may be noise. As
    ``tau`` goes to infinity, with gamma 0, and for one pair alone, this is DPO.

    **Batch statistics.** The problem is convex. The authors approach its solution by exponentiated
    gradients, whose steps shrink as pairs and gamma grow; we solve it exactly
    (:func:`optimal_shares`). They add margins of earlier steps from a queue; we take the batch alone.

    Args:
        beta: strength of the preference, above 0.
        gamma: mean target, from 0 (DPO).
        tau: how equal the targets are kept, above 0; the authors take 3 to 20.
    """

    beta: float = 1.0
    gamma: float = 0.5
    tau: float = 10.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        at_least_zero("gamma", self.gamma)
        above_zero("tau", self.tau)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        reward = self.beta * margins.difference
        return -logsigmoid(reward - self.gamma * (self._relative(reward.detach()) - 1))

    def _relative(self, reward: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Targets as multiples of their mean."""
        if len(reward) < 2 or not self.gamma:
            return torch.ones_like(reward)
        rewards = reward.double().cpu().numpy()
        shares = optimal_shares(rewards, self.gamma, self.tau)
        return torch.from_numpy(len(shares) * shares).to(reward)


@checked()
@dataclass(frozen=True, slots=True)
class AMaPO:
    """A target for the pairs that lag behind, without a reference: AMaPO (Deng et al., 2025).

    ``-log sigmoid(beta m_i - gamma_i)``, ``m_i`` the policy part of the margin, ``M`` and ``S`` its
    mean and standard deviation over the batch, and ``gamma_i = beta exp(M (M - m_i) / S)`` where
    ``m_i < M``, else 0: effort goes to the pairs that are ranked worst.

    As understood from the authors' released code, of which the paper's text says the same in words
    (Z-normalisation, exponential scaling). The exponent is cut at 10; beyond it the gradient is at
    its bound ``beta`` anyway. For masks: their normalisation by length is the reduction.

    **Batch statistics.** One pair alone, and pairs with equal margins, have the target 0.

    Args:
        beta: strength of the preference, above 0.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        fixed = margins.policy.detach()
        lag = -_standard(fixed)
        target = torch.where(lag > 0, (fixed.mean() * lag).clamp(max=10).exp(), 0)
        return -logsigmoid(self.beta * (margins.policy - target))


def _standard(values: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Z-scores; 0 where there is one value or all are equal."""
    if len(values) < 2:
        return torch.zeros_like(values)
    spread = values.std()
    return torch.where(spread > _SPREAD, (values - values.mean()) / spread.clamp(min=_SPREAD), 0)
