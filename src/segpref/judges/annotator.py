"""The virtual annotator of Konwer et al. (2025): overlap with the truth as ratings or ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.judges.wrapping import WrappingJudge
from segpref.judges.yaml_types import NamedJudge
from segpref.types import Case, SegprefError, Slate

__all__ = ["VirtualAnnotator", "quartiles", "rated"]


@checked(seed={"least": 0})
class VirtualAnnotator(WrappingJudge):
    """Says another judge's scores as a person would, by ratings or ranks, and sometimes wrongly.

    ``rating``: ``1 + sum_c [s >= c]`` over the cuts, so candidates between the same two cuts are tied
    and give no pair. ``ranking``: place of the candidate from the bottom, 1 being the worst;
    candidates of equal score share the mean of their places, so they stay tied. NaN stays NaN.

    A flip lets two *closely ranked* candidates exchange what is said of them: from the best
    downwards, each candidate is compared with the next worse one (the next lower rating or rank,
    whose scores are at most ``flip_within`` apart), and with probability ``flip_rate`` the two
    change places; no candidate is exchanged twice. So the best and the worst mostly stay apart at any
    rate. A reversal turns the whole order round instead; at a rate of 0.5 nothing is said but
    chance. Chance is a function of the seed, the case and
    the masks, so a resumed run hears the same.

    Args:
        judge: whose scores are said; the paper's is ``OracleJudge(label_space, measure="dice")``.
        says: rating or ranking.
        cuts: ascending, where one rating ends and the next begins. The default are quarters of the
            range of Dice; :func:`quartiles` gives those of the candidates' own distribution.
        flip_rate: probability of an exchange, from 0 to 1.
        flip_within: largest difference of score of those that are exchanged; None for any.
        seed: random seed.
        reverse_rate: probability that what is said of a structure is turned round, from 0 to 1.

    Raises:
        SegprefError: a setting out of its range.
    """

    def __init__(
        self,
        judge: NamedJudge,
        says: Literal["rating", "ranking"] = "ranking",
        cuts: Sequence[float] = (0.25, 0.5, 0.75),
        flip_rate: float = 0.0,
        flip_within: float | None = None,
        seed: int = 0,
        reverse_rate: float = 0.0,
    ) -> None:
        if says not in ("rating", "ranking"):
            raise SegprefError(f"a virtual annotator says a rating or a ranking, not {says!r}")
        if not 0 <= flip_rate <= 1 or (flip_within is not None and not flip_within >= 0):
            raise SegprefError(
                "a virtual annotator's flip_rate is from 0 to 1 and its flip_within from 0, not "
                f"{flip_rate} and {flip_within}"
            )
        if not 0 <= reverse_rate <= 1:
            raise SegprefError(f"reverse_rate is a probability from 0 to 1, not {reverse_rate}")
        if not cuts or not np.all(np.diff(cuts) >= 0) or not np.isfinite(cuts).all():
            raise SegprefError(f"cuts between ratings are ascending numbers, not {list(cuts)}")
        super().__init__(judge)
        self.says = says
        self.cuts = tuple(cuts)
        self.flip_rate = flip_rate
        self.flip_within = np.inf if flip_within is None else flip_within
        self.seed = seed
        self.reverse_rate = reverse_rate

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """What is said of every candidate."""
        scores = np.asarray(self.judge.score(case, slate), dtype=np.float64)
        said = np.full_like(scores, np.nan)
        for number, column in enumerate(scores.T):
            valid = np.flatnonzero(~np.isnan(column))
            if not len(valid):
                continue
            words = (
                rated(column[valid], self.cuts) if self.says == "rating" else _ranks(column[valid])
            )
            if self.flip_rate or self.reverse_rate:
                rng = self._rng(case, slate.masks[:, number], number)
                words = _flipped(words, column[valid], self.flip_rate, self.flip_within, rng)
                if rng.random() < self.reverse_rate:
                    words = words.min() + words.max() - words
            said[valid, number] = words
        return said

    def _rng(
        self, case: Case, masks: UInt8[np.ndarray, "K *space"], number: int
    ) -> np.random.Generator:
        whole = hashlib.blake2b(f"{self.seed} {case.id} {number} ".encode(), digest_size=8)
        whole.update(np.ascontiguousarray(masks).tobytes())
        return np.random.default_rng(int.from_bytes(whole.digest(), "little"))


def rated(scores: Float[np.ndarray, " K"], cuts: Sequence[float]) -> Float[np.ndarray, " K"]:
    """Ratings from 1 to ``len(cuts) + 1``: how many cuts a score reaches, plus one."""
    return 1.0 + np.searchsorted(np.asarray(cuts), scores, side="right")


def quartiles(scores: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Cuts that put a quarter of these scores into each rating; abstentions are left out.

    Raises:
        SegprefError: there is no score.
    """
    valid = scores[~np.isnan(scores)]
    if not len(valid):
        raise SegprefError("there is no score to take quartiles of: give the scores of some slates")
    low, middle, high = np.quantile(valid, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def _ranks(scores: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Places from the bottom, 1 to K; equal scores share the mean of theirs."""
    below = (scores[:, None] > scores).sum(axis=1)
    alike = (scores[:, None] == scores).sum(axis=1)
    return np.asarray(below + (alike + 1) / 2)


def _flipped(
    words: Float[np.ndarray, " K"],
    scores: Float[np.ndarray, " K"],
    rate: float,
    within: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, " K"]:
    order = np.argsort(-scores, kind="stable")
    said = words.copy()
    place = 0
    while place < len(order) - 1:
        better, worse = order[place], order[place + 1]
        place += 1
        if words[better] == words[worse] or scores[better] - scores[worse] > within:
            continue
        if rng.random() < rate:
            said[better], said[worse] = words[worse], words[better]
            place += 1
    return said
