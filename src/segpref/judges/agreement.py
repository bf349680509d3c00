"""Judges that ask how well a mask agrees with the raters, in Dice (TDG-DiffDPO, Sec. 3.4.2)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segpref.metrics import dice, overlap_counts
from segpref.types import IGNORE, Case, LabelSpace, SegprefError, Slate

__all__ = ["BestRaterJudge", "MeanDiceJudge"]


class MeanDiceJudge:
    """The consensus hypothesis: ``s_MD = 1/M sum_m Dice(y, g_m)``, the compromise wins.

    Per field. Empty against empty is 1, so that raters who mark nothing speak for empty masks. Of a
    multi-class mask it is the mean over the foreground classes that the rater or any candidate holds.
    Pixels that are ``IGNORE`` to a rater do not count, and one who leaves a field out altogether has no
    voice on it; without any voice the judge abstains.

    :class:`~segpref.judges.raters.RatersJudge` asks the same in IoU.

    Args:
        label_space: what the masks mean.

    Raises:
        SegprefError: a case without raters' masks.
    """

    needs_label = True

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Mean Dice of every candidate with the raters who have a voice."""
        each, voices = _rater_dice(case, slate, self.label_space)
        heard = voices[:, None]
        total = np.where(heard, each, 0).sum(axis=0) / np.maximum(voices.sum(axis=0), 1)
        return np.where(voices.any(axis=0), total, np.nan)


class BestRaterJudge:
    """The greedy hypothesis: ``s_BR = max_m Dice(y, g_m)``, a mask is right if anybody draws it so.

    The same conventions as :class:`MeanDiceJudge`. One rater who marks nothing gives every empty mask
    the score 1. With slates of two runs (``SampleSlates(runs=2)``) and the extremes miner it is
    Stochastic Run Preference.

    Args:
        label_space: what the masks mean.

    Raises:
        SegprefError: a case without raters' masks.
    """

    needs_label = True

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Best Dice of every candidate with any rater who has a voice."""
        each, voices = _rater_dice(case, slate, self.label_space)
        best = np.where(voices[:, None], each, 0).max(axis=0)
        return np.where(voices.any(axis=0), best, np.nan)


def _rater_dice(
    case: Case, slate: Slate, label_space: LabelSpace
) -> tuple[Float[np.ndarray, "rater K field"], Bool[np.ndarray, "rater field"]]:
    """Dice of every candidate with every rater, and who says anything about which field."""
    if case.raters is None or not len(case.raters):
        raise SegprefError(
            f"{case.id} has no masks of several raters: judge it with the oracle or a model"
        )
    raters = np.asarray(case.raters)
    voices = (raters != IGNORE).reshape(*raters.shape[:2], -1).any(axis=2)
    return np.stack([_slate_dice(slate.masks, one, label_space) for one in raters]), voices


def _slate_dice(
    masks: UInt8[np.ndarray, "K field *space"],
    rater: UInt8[np.ndarray, "field *space"],
    label_space: LabelSpace,
) -> Float[np.ndarray, "K field"]:
    counts = overlap_counts(masks, rater, label_space)
    scores = dice(counts)
    if label_space.kind == "multi-label":
        return scores
    held = (counts.true[0] > 0) | (counts.predicted > 0).any(axis=0)
    if not held.any():
        return np.ones((len(masks), 1))
    return np.asarray(scores[:, held].mean(axis=1, keepdims=True))
