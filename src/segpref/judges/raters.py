"""A judge that compares candidates with several raters' masks of the image."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.metrics import slate_iou
from segpref.types import IGNORE, Case, LabelSpace, SegprefError, Slate

__all__ = ["RatersJudge", "raters_of"]


@checked()
class RatersJudge:
    """Scores a candidate by its agreement with the masks of several raters.

    Per field, with the masks ``y_1 ... y_R`` of the raters:

    - ``mean``: ``1/R sum_r IoU(y(k), y_r)``, what a rater drawn at random would say;
    - ``best``: ``max_r IoU(y(k), y_r)``, so that a mask is right if it agrees with any rater.

    With ``measure="dice"`` they are Mean Dice and Best-Rater of TDG-DiffDPO (Sec. 3.4.2).

    Each IoU or Dice follows :func:`~segpref.metrics.slate_iou`: pixels that are ``IGNORE`` to a rater
    do not count, of a multi-class mask the mean over the foreground classes that the rater or any
    candidate holds, empty against empty is 1. A rater who leaves a field out altogether (``IGNORE``
    everywhere) has no voice on it; without any voice the judge abstains.

    It reads ``case.raters``, which are labels, so ``needs_label`` is true.

    Args:
        label_space: what the masks mean.
        agreement: with whom.
        measure: ``iou`` or ``dice``.

    Raises:
        SegprefError: an unknown agreement or measure, or a case without raters' masks.
    """

    needs_label = True

    def __init__(
        self,
        label_space: LabelSpace,
        agreement: Literal["mean", "best"] = "mean",
        measure: Literal["iou", "dice"] = "iou",
    ) -> None:
        if agreement not in ("mean", "best"):
            raise SegprefError(f"raters are asked for mean or best agreement, not {agreement!r}")
        if measure not in ("iou", "dice"):
            raise SegprefError(f"agreement is measured as iou or dice, not {measure!r}")
        self.label_space = label_space
        self.agreement = agreement
        self.measure = measure

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Agreement of every candidate with the raters."""
        raters = raters_of(case)
        voices = (raters != IGNORE).reshape(*raters.shape[:2], -1).any(axis=2)
        each = np.stack(
            [slate_iou(slate.masks, one, self.label_space, measure=self.measure) for one in raters]
        )
        heard = np.broadcast_to(voices[:, None], each.shape)
        if self.agreement == "mean":
            scores = np.where(heard, each, 0).sum(axis=0) / np.maximum(voices.sum(axis=0), 1)
        else:
            scores = np.where(heard, each, 0).max(axis=0)
        return np.where(voices.any(axis=0), scores, np.nan)


def raters_of(case: Case) -> UInt8[np.ndarray, "rater field *space"]:
    """The raters' masks of a case.

    Raises:
        SegprefError: it has none.
    """
    if case.raters is None or not len(case.raters):
        raise SegprefError(
            f"{case.id} has no masks of several raters: judge it with the oracle or a model"
        )
    return np.asarray(case.raters)
