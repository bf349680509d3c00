"""Soft targets: the loss of a pair of which it is not said for sure which mask is better."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from segpref.types import Margins

__all__ = ["both_orders"]


def both_orders(
    loss: Callable[[Float[Tensor, " P"]], Float[Tensor, " P"]], margins: Margins
) -> Float[Tensor, " P"]:
    """``t L(Delta) + (1 - t) L(-Delta)``, the expected loss where the winner is better with ``t``.

    A tie has ``t = 1/2``: DPO and IPO are then least at ``Delta = 0``, where the policy prefers neither
    mask more than the reference does. Without targets it is ``L(Delta)``.

    Args:
        loss: L, of differences between the policy's and the reference's part.
        margins: with ``target`` or without.
    """
    straight = loss(margins.difference)
    if margins.target is None:
        return straight
    return margins.target * straight + (1 - margins.target) * loss(-margins.difference)
