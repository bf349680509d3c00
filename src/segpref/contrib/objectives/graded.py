"""Losses that use how sure the judge is, not only which mask it prefers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from segpref.checking import checked
from segpref.objectives.checks import above_zero, at_least_zero
from segpref.types import Margins, SegprefError

__all__ = ["DPOPRO", "ODPO", "SoftDPO", "UncertaintyPenalizedDPO"]


@checked()
@dataclass(frozen=True, slots=True)
class ODPO:
    """DPO with an offset: a clearer preference must be learned more clearly (Amini et al., 2024).

    ``-log sigmoid(beta Delta - alpha f(gap))`` with ``f`` the identity (``linear``) or the logarithm
    (``log``) of the judge's score difference.

    As understood from the paper, which takes the logarithm, of a reward model's scores. For masks:
    scores such as IoU differ by less than 1, and of that the logarithm is negative: it asks *less* of
    pairs that are close instead of more of those that are far apart. So the default is ``linear``.

    Args:
        beta: strength of the preference, above 0.
        alpha: size of the offset, from 0 (DPO).
        scaling: ``linear`` or ``log``.
    """

    beta: float = 1.0
    alpha: float = 1.0
    scaling: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        at_least_zero("alpha", self.alpha)
        if self.scaling not in ("linear", "log"):
            raise SegprefError(
                f"the objective's scaling must be 'linear' or 'log', not {self.scaling!r}"
            )

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        size = margins.gap if self.scaling == "linear" else margins.gap.log()
        return -logsigmoid(self.beta * margins.difference - self.alpha * size)


@checked()
@dataclass(frozen=True, slots=True)
class SoftDPO:
    """DPO on geometric averages of the two likelihoods: GDPO (Furuta et al., 2024).

    ``-log sigmoid(beta (2 p - 1) Delta)``, ``p = sigmoid(gap / temperature)`` the soft label. The
    likelihoods of winner and loser are mixed as ``pi(y+)^p pi(y-)^(1-p)``; their log-ratio is the
    margin times ``2 p - 1``, so a pair that the judge holds for equal gives no gradient. As ``p``
    goes to 1 this is DPO.

    As understood from the paper, which asks a language model for ``p``. For masks: it is the
    Bradley-Terry probability of the judge's scores.

    Args:
        beta: strength of the preference, above 0.
        temperature: score difference at which ``p`` is 0.73, above 0.
    """

    beta: float = 1.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        above_zero("temperature", self.temperature)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        certainty = 2 * torch.sigmoid(margins.gap / self.temperature) - 1
        return -logsigmoid(self.beta * certainty * margins.difference)


@checked()
@dataclass(frozen=True, slots=True)
class UncertaintyPenalizedDPO:
    """DPO that asks less of pairs of which the judge is unsure (after Houliston et al., 2024).

    ``margin``: ``-log sigmoid(beta Delta + penalty u)``: what is known of the winner's lead is its
    lower confidence bound. ``weight``: ``exp(-penalty u) (-log sigmoid(beta Delta))``. In both the
    gradient of an unsure pair is weaker than DPO's, and without uncertainty they are DPO.

    As understood from the paper's abstract, which speaks of pessimistic penalties that attenuate the
    gradient of uncertain pairs, taken from an ensemble; its exact schemes could not be checked.

    ``u`` is the uncertainty that comes with the margins: one standard deviation of the judge's score
    difference, if a judge reports it (an ensemble, for example). Otherwise it is what a
    ``temperature`` makes of the gap: ``u = 2 sigmoid(-gap / temperature)``, 1 for a tie and 0 for a
    clear lead.

    Args:
        beta: strength of the preference, above 0.
        penalty: how much an uncertainty of 1 counts, from 0 (DPO).
        scheme: ``margin`` or ``weight``.
        temperature: takes the uncertainty from the gap, above 0; from the judge where None.
    """

    beta: float = 1.0
    penalty: float = 1.0
    scheme: Literal["margin", "weight"] = "margin"
    temperature: float | None = None

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        at_least_zero("penalty", self.penalty)
        if self.temperature is not None:
            above_zero("temperature", self.temperature)
        if self.scheme not in ("margin", "weight"):
            raise SegprefError(
                f"the objective's scheme must be 'margin' or 'weight', not {self.scheme!r}"
            )

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair.

        Raises:
            SegprefError: the judge reports no uncertainty and there is no temperature.
        """
        h, cost = self.beta * margins.difference, self.penalty * self._uncertainty(margins)
        if self.scheme == "margin":
            return -logsigmoid(h + cost)
        return -torch.exp(-cost) * logsigmoid(h)

    @property
    def needs_uncertainty(self) -> bool:
        """Whether the judge's uncertainty is needed."""
        return self.temperature is None

    def _uncertainty(self, margins: Margins) -> Float[Tensor, " P"]:
        if self.temperature is not None:
            return 2 * torch.sigmoid(-margins.gap / self.temperature)
        if margins.uncertainty is None:
            raise SegprefError(
                "UncertaintyPenalizedDPO needs a judge that reports its uncertainty, which this "
                "one does not; use such a judge,"
                " or set the objective's temperature"
            )
        return margins.uncertainty


@checked()
@dataclass(frozen=True, slots=True)
class DPOPRO:
    """DPO against the worst preference probability near the judge's (Kim et al., 2025: DPO-PRO).

    ``max_p  p L(Delta) + (1 - p) L(-Delta)`` with ``L = -log sigmoid(beta .)``, over all ``p`` with
    ``(p - q)^2 / (q (1 - q)) <= rho``, a chi-squared ball about ``q = sigmoid(gap / temperature)``.
    In closed form ``p = q -+ sqrt(rho q (1 - q))``, cut to [0, 1]: the lower end where ``Delta`` is
    above 0, the upper end below it. Before the cut that is the loss under ``q`` plus
    ``sqrt(rho q (1 - q)) beta |Delta|``: a price on confidence where the judge has little.

    The loss has a kink at ``Delta = 0``, where stage 2 starts. There we take the ``p`` of the ball
    that is nearest to 1/2 (the smallest subgradient), so a pair whose ball holds 1/2 stays put.

    As understood from summaries of the paper (the ball, the closed form, the equivalence to a
    regularised DPO); whether it scales the divergence by 1/2, which only rescales ``rho``, could
    not be checked. For masks: the paper's ``q`` is a share of votes; here it comes from the scores.

    Args:
        beta: strength of the preference, above 0.
        rho: squared radius of the ball, from 0 (cross-entropy with ``q``).
        temperature: score difference at which ``q`` is 0.73, above 0.
    """

    beta: float = 1.0
    rho: float = 0.1
    temperature: float = 0.1

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        at_least_zero("rho", self.rho)
        above_zero("temperature", self.temperature)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair."""
        h = self.beta * margins.difference
        q, other = _both(margins.gap / self.temperature)
        radius = torch.sqrt(self.rho * q * other)
        low, high = (q - radius).clamp(min=0), (q + radius).clamp(max=1)
        nearest = torch.clamp(torch.full_like(q, 0.5), low, high)
        p = torch.where(h > 0, low, torch.where(h < 0, high, nearest))
        return -p * logsigmoid(h) - (1 - p) * logsigmoid(-h)


def _both(x: Float[Tensor, " P"]) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """``sigmoid(x)`` and ``1 - sigmoid(x)``, neither by a difference."""
    return torch.sigmoid(x), torch.sigmoid(-x)
