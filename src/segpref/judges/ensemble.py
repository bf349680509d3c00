"""The ensemble judge of the paper's ablation: several segmenters, whose opinions are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.predictions import PredictionStore
from segpref.judges.naming import NamedPredictor
from segpref.metrics import slate_iou
from segpref.types import Case, LabelSpace, SegprefError, Slate

__all__ = ["EnsembleJudge"]


@checked()
class EnsembleJudge:
    """Scores a candidate by its mean IoU with the predictions of several segmenters.

    ``s(k) = 1/M sum_m IoU(y(k), y^(m)(x))`` per field (RN-DPO, Eq. 14; the paper trains M = 5 with
    different seeds on the labelled set of stage 1). Each IoU follows
    :func:`~segpref.metrics.slate_iou`: of a multi-class mask the mean over the foreground classes
    that the segmenter or any candidate holds, empty against empty is 1. The predictions are computed
    once and kept in the cache.

    Beyond the paper, the judge may abstain on a field of an image where its segmenters disagree:
    where ``1 - mean IoU of two different segmenters`` is above ``max_disagreement``, all candidates
    score NaN.

    Args:
        predictors: the segmenters, of one label space.
        max_disagreement: above which the judge abstains, from 0 to 1; never where None.
        cache: where their predictions are kept.

    Raises:
        SegprefError: no segmenter, or segmenters of different label spaces.
    """

    needs_label = False

    def __init__(
        self,
        predictors: Sequence[NamedPredictor],
        max_disagreement: float | None = None,
        cache: Cache | None = None,
    ) -> None:
        spaces = {predictor.label_space for predictor in predictors}
        if len(spaces) != 1:
            raise SegprefError(
                f"an ensemble judge needs segmenters of one label space, not of {len(spaces)}: name "
                "models that were trained on the same labels"
            )
        self.label_space: LabelSpace = spaces.pop()
        self.max_disagreement = max_disagreement
        cache = cache or Cache()
        self._predictions = [PredictionStore(one, "masks", cache) for one in predictors]

    def prepare(self, dataset: Dataset) -> None:
        """Predict all cases of the dataset that were not predicted before."""
        for store in self._predictions:
            store.prepare(dataset)

    def predictions(self, case: Case) -> UInt8[np.ndarray, "M field *space"]:
        """The segmenters' own masks of a prepared case."""
        return np.stack([store[case] for store in self._predictions])

    def disagreement(self, case: Case) -> Float[np.ndarray, " field"]:
        """One minus the mean IoU of two different segmenters; 0 for a single one."""
        return _disagreement(self.predictions(case), self.label_space)

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Mean IoU of every candidate with the segmenters' predictions."""
        predicted = self.predictions(case)
        scores = _mean_iou_with(predicted, slate.masks, self.label_space)
        if self.max_disagreement is not None:
            scores[:, _disagreement(predicted, self.label_space) > self.max_disagreement] = np.nan
        return scores

    def uncertainty(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Standard deviation of a candidate's IoU over the segmenters; 0 for a single one."""
        predicted = self.predictions(case)
        each = [slate_iou(slate.masks, one, self.label_space) for one in predicted]
        return np.asarray(np.std(each, axis=0, ddof=1 if len(each) > 1 else 0))


def _mean_iou_with(
    references: UInt8[np.ndarray, "M field *space"],
    masks: UInt8[np.ndarray, "K field *space"],
    label_space: LabelSpace,
) -> Float[np.ndarray, "K field"]:
    """Mean over several reference masks of :func:`~segpref.metrics.slate_iou`, float64."""
    each = [slate_iou(masks, reference, label_space) for reference in references]
    return np.asarray(np.mean(each, axis=0))


def _disagreement(
    predicted: UInt8[np.ndarray, "M field *space"], label_space: LabelSpace
) -> Float[np.ndarray, " field"]:
    members = len(predicted)
    if members < 2:
        return np.zeros(label_space.fields)
    # A mask has the IoU 1 with itself, which is taken out of the mean over all ordered pairs.
    total = members * _mean_iou_with(predicted, predicted, label_space).sum(axis=0)
    return np.asarray(1 - (total - members) / (members * (members - 1)))
