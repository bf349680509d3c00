"""A judge with added errors, to measure how much noise preference learning tolerates."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.judges.wrapping import WrappingJudge
from segpref.judges.yaml_types import NamedJudge
from segpref.types import IGNORE, Case, SegprefError, Slate

__all__ = ["NoisyJudge"]


@checked(seed={"least": 0})
class NoisyJudge(WrappingJudge):
    """Another judge's scores with errors of known kind and size.

    Per slate and field, in this order:

    1. bias towards size: ``s(k) + size_bias log((|y(k)| + 1) / (|y(0)| + 1))``, where ``|y|`` counts
       foreground pixels and ``y(0)`` is the anchor; below 0 the judge likes small masks;
    2. ties: sorted scores are cut into groups that span at most ``tie_width``, and inside a group
       they are dealt out anew at random: near-ties are ordered at random;
    3. noise: ``s(k) + noise z(k)`` with standard normal ``z``;
    4. flips: with probability ``flip_rate`` the order of the whole slate is reversed,
       ``s(k) -> min s + max s - s(k)``. Every pair that a miner takes from the slate is then the
       wrong way round, so with one pair per slate the flip rate of pairs is ``flip_rate``: the noise
       that :class:`~segpref.objectives.RobustDPO` is made for.

    Random numbers are a function of the seed, the case and the masks, never of earlier calls: a mask
    that comes again in another slate has the same noise, and a slate that comes again has the same
    flips, so a resumed run is bit-identical and permuted candidates have permuted scores (but for
    the anchor of ``size_bias``). With all settings at 0 the scores are the other judge's own. NaN
    stays NaN.

    Args:
        judge: whose scores are changed.
        flip_rate: probability that a slate's order is reversed, from 0 to 1.
        noise: standard deviation of Gaussian noise, in units of the score.
        tie_width: scores as close as this are ordered at random; 0 for none.
        size_bias: score per factor e of size, against the anchor.
        seed: random seed.

    Raises:
        SegprefError: a setting out of its range.
    """

    def __init__(
        self,
        judge: NamedJudge,
        flip_rate: float = 0.0,
        noise: float = 0.0,
        tie_width: float = 0.0,
        size_bias: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not 0 <= flip_rate <= 1:
            raise SegprefError(f"a noisy judge's flip_rate is from 0 to 1, not {flip_rate}")
        if min(noise, tie_width) < 0 or not np.isfinite([noise, tie_width, size_bias]).all():
            raise SegprefError(
                "a noisy judge's noise and tie_width are numbers from 0, its size_bias any number, "
                f"not {noise}, {tie_width} and {size_bias}"
            )
        super().__init__(judge)
        self.flip_rate = flip_rate
        self.noise = noise
        self.tie_width = tie_width
        self.size_bias = size_bias
        self.seed = seed

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """The other judge's scores, made worse."""
        scores = np.array(self.judge.score(case, slate), dtype=np.float64)
        if self.size_bias:
            scores += self.size_bias * _relative_size(slate.masks)
        for number, column in enumerate(scores.T):
            valid = ~np.isnan(column)
            if valid.any():
                keys = self._keys(case, slate.masks[valid, number], number)
                column[valid] = self._changed(column[valid], keys)
        return scores

    def _changed(self, scores: Float[np.ndarray, " K"], keys: list[int]) -> Float[np.ndarray, " K"]:
        """One field of one slate; ``keys`` are hashes of its masks."""
        if self.tie_width:
            draws = np.array([np.random.default_rng([1, key]).random() for key in keys])
            scores = _shuffled_ties(scores, draws, self.tie_width)
        if self.noise:
            normal = [np.random.default_rng([2, key]).standard_normal() for key in keys]
            scores = scores + self.noise * np.array(normal)
        if self.flip_rate:
            # A sum does not depend on the order of the candidates.
            chance_of_slate = np.random.default_rng([3, sum(keys)]).random()
            if chance_of_slate < self.flip_rate:
                scores = scores.min() + scores.max() - scores
        return scores

    def _keys(self, case: Case, masks: UInt8[np.ndarray, "K *space"], number: int) -> list[int]:
        """One number for every mask of a field."""
        start = hashlib.blake2b(f"{self.seed} {case.id} {number} ".encode(), digest_size=8)
        keys = []
        for mask in masks:
            digest = start.copy()
            digest.update(mask.tobytes())
            keys.append(int.from_bytes(digest.digest(), "little"))
        return keys


def _relative_size(masks: UInt8[np.ndarray, "K field *space"]) -> Float[np.ndarray, "K field"]:
    """Logarithm of the size against the anchor's, in the units of :class:`NoisyJudge`."""
    held = (masks > 0) & (masks != IGNORE)
    sizes = held.reshape(*masks.shape[:2], -1).sum(axis=2)
    return np.asarray(np.log((sizes + 1) / (sizes[0] + 1)))


def _shuffled_ties(
    scores: Float[np.ndarray, " K"], draws: Float[np.ndarray, " K"], width: float
) -> Float[np.ndarray, " K"]:
    """Scores within ``width`` of the lowest of their group, dealt out in the order of ``draws``."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    group = np.zeros(len(scores), dtype=np.int64)
    start = 0
    for place in range(1, len(scores)):
        if ranked[place] - ranked[start] > width:
            start = place
        group[place] = start
    result = np.empty_like(scores)
    # Groups stay where they are in the ranking; inside one, chance decides who gets which score.
    result[order[np.lexsort((draws[order], group))]] = ranked
    return result
