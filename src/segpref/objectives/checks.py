"""Checks of the settings and margins of objectives, with one-sentence errors."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from segpref.types import Margins, SegprefError

__all__ = ["above_zero", "at_least_zero", "below_half", "share", "winner_of"]


def above_zero(name: str, value: float) -> None:
    """Refuse what is no finite number above 0."""
    if not 0 < value < float("inf"):
        raise SegprefError(f"the objective's {name} must be a number above 0, not {value}")


def at_least_zero(name: str, value: float) -> None:
    """Refuse what is no finite number from 0."""
    if not 0 <= value < float("inf"):
        raise SegprefError(f"the objective's {name} must be a number from 0, not {value}")


def below_half(name: str, value: float) -> None:
    """Refuse what is no rate of errors."""
    if not 0 <= value < 0.5:
        raise SegprefError(f"the objective's {name} must be from 0 to below 0.5, not {value}")


def share(name: str, value: float) -> None:
    """Refuse what is no share of something that is not empty."""
    if not 0 < value <= 1:
        raise SegprefError(f"the objective's {name} must be above 0 and at most 1, not {value}")


def winner_of(margins: Margins) -> Float[Tensor, " P"]:
    """The winner's log-likelihood, or an error if it was not computed.

    Raises:
        SegprefError: the margins come without it.
    """
    if margins.winner is None:
        raise SegprefError(
            "this objective needs the winner's log-likelihood, which these margins come without; "
            "give Margins its winner (segpref.objectives.winner_log_likelihood)"
        )
    return margins.winner
