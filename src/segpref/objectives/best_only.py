"""Learning from the best candidate only (Konwer et al., 2025, Sec. 3.2 and Table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from segpref.checking import checked
from segpref.objectives.checks import above_zero, winner_of
from segpref.types import Margins, SegprefError

__all__ = ["BestOnly"]


@checked()
@dataclass(frozen=True, slots=True)
class BestOnly:
    """Makes the best candidate more likely than it was, and holds it against no other.

    ``-log sigmoid(beta (log pi(y+) - log pi_ref(y+)))``: Eq. 5 without its other three terms, "loss
    for best candidate" of Table 2. There is no loser, so nothing cancels: the log-likelihoods are those
    of the whole mask, per pixel under the reduction, over Omega for ``image`` and over the pixels where
    winner and loser of the mined pair differ for ``region``.

    Args:
        beta: strength of the preference, above 0; the paper's beta_1.
    """

    needs_likelihood: ClassVar[bool] = True
    needs_reference_likelihood: ClassVar[bool] = True

    beta: float = 1.0

    def __post_init__(self) -> None:
        above_zero("beta", self.beta)

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Loss of every pair.

        Raises:
            SegprefError: the margins come without the winner's log-likelihoods.
        """
        before = margins.reference_winner
        if before is None:
            raise SegprefError(
                "this objective needs the winner's log-likelihood under the reference, which these "
                "margins come without: give Margins its reference_winner"
            )
        return -logsigmoid(self.beta * (winner_of(margins) - before))
