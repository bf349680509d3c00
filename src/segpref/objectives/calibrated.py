"""DPO calibrated by how often the judge was right on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from segpref.checking import checked
from segpref.objectives.checks import above_zero
from segpref.objectives.soft_targets import both_orders
from segpref.runtime import moved
from segpref.types import Margins, SegprefError

__all__ = ["CalibratedDPO"]


@checked()
@dataclass(frozen=True, slots=True)
class CalibratedDPO:
    """cDPO (Mitchell, 2023) with the flip rate of the pair's own score gap (ours).

    ``(1 - e) L(Delta) + e L(-Delta)`` with ``L = -log sigmoid(beta .)`` and ``e = e(gap)``, measured on
    labelled images (:func:`~segpref.metrics.mined_flips`), linear between the measured gaps and
    constant beyond them. It is least where ``sigmoid(beta Delta) = 1 - e``: a pair is learned until
    the policy is as sure of it as the judge has been right about such pairs, and no further; where the
    judge is right as often as not, the policy is held at the reference. Margins that bring their own
    flip rates, such as those of votes, need no table.

    Args:
        beta: strength of the preference, above 0.
        gaps: score gaps, ascending. Studies and ``segpref align`` measure them, with the flip rates, on
            the labelled validation images where they are not given.
        flip_rates: share of pairs at each gap that the judge has the wrong way round, 0 to 1. Above
            one half counts as one half: a judge that is mostly wrong is not turned round.
    """

    soft_targets: ClassVar[bool] = True

    beta: float = 1.0
    gaps: tuple[float, ...] = ()
    flip_rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)
        gaps, rates = np.asarray(self.gaps, float), np.asarray(self.flip_rates, float)
        if len(gaps) != len(rates) or (np.diff(gaps) <= 0).any():
            raise SegprefError(
                "CalibratedDPO needs as many flip_rates as gaps, and gaps that rise: take both from "
                "`segpref audit`"
            )
        if not ((rates >= 0) & (rates <= 1)).all():
            raise SegprefError(f"flip_rates are shares from 0 to 1, not {list(self.flip_rates)}")

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair.

        Raises:
            SegprefError: there are no flip rates.
        """
        wrong = self._flip_rates(margins)

        def loss(delta: Tensor) -> Tensor:
            h = self.beta * delta
            return -(1 - wrong) * logsigmoid(h) - wrong * logsigmoid(-h)

        return both_orders(loss, margins)

    def _flip_rates(self, margins: Margins) -> Float[Tensor, " P"]:
        if margins.flip_rate is not None:
            return margins.flip_rate.clamp(max=0.5)
        if not self.gaps:
            raise SegprefError(
                "CalibratedDPO has no flip rates: give the gaps and flip_rates of `segpref audit`"
            )
        e = _interpolated(margins.gap.detach(), self.gaps, np.minimum(self.flip_rates, 0.5))
        return e.to(margins.difference.dtype)


def _interpolated(
    x: Float[Tensor, " P"], at: Sequence[float], values: np.ndarray
) -> Float[Tensor, " P"]:
    """``np.interp`` where x is, float64: in its order of operations, without waiting for a device."""
    rise = np.diff(values) / np.diff(at) if len(at) > 1 else np.zeros(1)
    places, heights, slopes = (
        moved(torch.tensor(one, dtype=torch.float64), x.device) for one in (at, values, rise)
    )
    x = x.double()
    left = (torch.searchsorted(places, x, right=True) - 1).clamp(0, len(rise) - 1)
    between = slopes[left] * (x - places[left]) + heights[left]
    inside = torch.where(x <= places[0], heights[0], between)
    return torch.where(x >= places[-1], heights[-1], inside)
