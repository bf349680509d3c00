"""From a ranking of several candidates to the pairs of one margin (Konwer et al., 2025, Eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from segpref.checking import checked
from segpref.metrics.slates import NEAR_TIE
from segpref.types import SegprefError, WeightedPairs

__all__ = ["NestedPairs"]


@checked(min_gap={"least": 0})
@dataclass(frozen=True, slots=True)
class NestedPairs:
    """The best candidate against the worst, the second against the second worst, and so on.

    With four candidates and two weights this is Eq. 5,
    ``beta_1 m(1, 4) + beta_2 m(2, 3)``, as one group: DPO with ``beta = 1`` on its sum is the paper's
    loss, and each margin has its own disagreement region. With one weight it is best against worst,
    the pair that best-only is reduced over. A pair that does not differ by ``min_gap`` is left
    out: ratings that tie say nothing. Of equal scores the first candidate ranks higher.

    Args:
        weights: beta_1, beta_2, ... from the outermost pair inwards; above 0 and not increasing.
        min_gap: how far below its winner a loser must score.

    Raises:
        SegprefError: weights out of order, or a gap that is not above 0.
    """

    weights: Sequence[float] = (1.0, 0.5)
    min_gap: float = NEAR_TIE

    def __post_init__(self) -> None:
        falling = all(a >= b for a, b in zip(self.weights, self.weights[1:], strict=False))
        if not self.weights or not falling or not 0 < min(self.weights) < float("inf"):
            raise SegprefError(
                "nested pairs have weights above 0 that do not increase, beta_1 >= beta_2, not "
                f"{list(self.weights)}"
            )
        if not 0 < self.min_gap < float("inf"):
            raise SegprefError(f"a miner's min_gap must be a number above 0, not {self.min_gap}")

    def __call__(self, scores: Float[np.ndarray, " K"], rng: np.random.Generator) -> WeightedPairs:
        """The pairs of one group; none where nothing differs."""
        valid = np.flatnonzero(~np.isnan(scores))
        ranked = valid[np.argsort(-scores[valid], kind="stable")]
        rows, weights = [], []
        for place in range(min(len(self.weights), len(ranked) // 2)):
            winner, loser = ranked[place], ranked[-1 - place]
            if scores[winner] - scores[loser] >= self.min_gap:
                rows.append((winner, loser))
                weights.append(self.weights[place])
        return WeightedPairs(
            np.array(rows, dtype=np.int64).reshape(-1, 2),
            np.array(weights, dtype=np.float64),
            np.zeros(len(rows), dtype=np.int64),
        )
