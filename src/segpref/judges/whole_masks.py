"""What a judge says of one whole mask, structure by structure, without other candidates beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segpref.metrics import iou, overlap_counts
from segpref.types import IGNORE, Candidate, Case, Judge, LabelSpace, Slate

__all__ = ["WholeMaskJudge", "WholeScores", "whole_iou", "whole_mask_scores"]


class WholeScores(NamedTuple):
    """What a judge says of the mask of a volume.

    Args:
        score: per structure, higher is better; NaN where it abstains.
        spread: standard deviation over what it consists of (segmenters, members); NaN below two.
    """

    score: Float[np.ndarray, " structure"]
    spread: Float[np.ndarray, " structure"]

    @classmethod
    def of(
        cls,
        rows: Float[np.ndarray, "member structure"],
        weights: Float[np.ndarray, " member"] | None = None,
    ) -> WholeScores:
        """Mean and spread over members; those that abstain on a structure have no part in it."""
        rows = np.asarray(rows, float)
        said, told = ~np.isnan(rows), np.nan_to_num(rows)
        share = said * (np.ones(len(rows)) if weights is None else weights)[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            score = (share * told).sum(axis=0) / share.sum(axis=0)
            squares = (said * (told - told.sum(axis=0) / said.sum(axis=0)) ** 2).sum(axis=0)
            spread = np.sqrt(squares / (said.sum(axis=0) - 1))
        return cls(score, np.where(said.sum(axis=0) > 1, spread, np.nan))


@runtime_checkable
class WholeMaskJudge(Protocol):
    """A judge that scores the mask of a whole volume, structure by structure.

    Others are asked by ``score``, item by item (:func:`whole_mask_scores`).
    """

    def whole_scores(
        self,
        cases: Sequence[Case],
        masks: UInt8[np.ndarray, "item field *space"],
        space: LabelSpace,
    ) -> WholeScores:
        """Arguments as of :func:`whole_mask_scores`."""
        ...


def whole_mask_scores(
    judge: Judge,
    cases: Sequence[Case],
    masks: UInt8[np.ndarray, "item field *space"],
    space: LabelSpace,
) -> WholeScores:
    """What a judge says of the mask of a volume.

    A judge without a method of its own for that (:class:`WholeMaskJudge`) scores slates of one
    candidate, item by item: the mean over the items in which the field is drawn, or over all items
    where none is.
    Of an exclusive label map its one score then counts for each structure. A judge that only compares
    candidates abstains on a slate of one.

    Args:
        judge: which.
        cases: the items of a volume, in their order: slices in 2D, the volume itself in 3D.
        masks: their masks.
        space: what the masks mean.
    """
    if isinstance(judge, WholeMaskJudge):
        return judge.whole_scores(cases, masks, space)
    candidate = (Candidate("prediction"),)
    pairs = zip(cases, masks, strict=True)
    said = np.stack([judge.score(case, Slate(mask[None], candidate))[0] for case, mask in pairs])
    drawn = np.asarray((masks > 0).reshape(*masks.shape[:2], -1).any(axis=2))
    fields = [_mean(scores, of) for scores, of in zip(said.T, drawn.T, strict=True)]
    fields = fields * len(space.structures) if len(fields) == 1 else fields
    return WholeScores.of(np.array([fields], dtype=float))


def whole_iou(
    masks: UInt8[np.ndarray, "item field *space"],
    reference: UInt8[np.ndarray, "item field *space"],
    space: LabelSpace,
    counted: Bool[np.ndarray, " structure"] | None = None,
) -> Float[np.ndarray, " structure"]:
    """IoU of two masks of a volume with its items stacked; empty against empty is 1.

    NaN of structures that do not count, and of those of which the reference is ``IGNORE`` everywhere.
    """
    found = iou(overlap_counts(masks.swapaxes(0, 1)[None], reference.swapaxes(0, 1), space))[0]
    known = (reference != IGNORE).swapaxes(0, 1).reshape(space.fields, -1).any(axis=1)
    known = np.broadcast_to(known, found.shape)
    return np.where(known if counted is None else known & counted, found, np.nan)


def _mean(scores: Float[np.ndarray, " item"], drawn: Bool[np.ndarray, " item"]) -> float:
    said = ~np.isnan(scores)
    over = said & drawn if (said & drawn).any() else said
    return float(scores[over].mean()) if over.any() else np.nan
