"""The ensemble judge of the paper's ablation: the mean score of several segmenters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.predictions import PredictionStore
from segpref.judges.undrawn_structures import UndrawnStructures
from segpref.judges.whole_masks import WholeScores, whole_iou
from segpref.judges.yaml_types import NamedPredictor
from segpref.metrics import slate_iou
from segpref.types import Case, LabelSpace, SegprefError, Slate

__all__ = ["EnsembleJudge"]


@checked(max_disagreement={"least": 0, "most": 1})
class EnsembleJudge:
    """Scores a candidate by its mean IoU with the predictions of several segmenters.

    ``s(k) = 1/M sum_m IoU(y(k), y^(m)(x))`` per field (RN-DPO, Eq. 14; the paper trains M = 5 with
    different seeds on the labelled set of stage 1). Each IoU follows
    :func:`~segpref.metrics.slate_iou`: of a multi-class mask the mean over the foreground classes
    that the segmenter or any candidate holds, empty against empty is 1. A segmenter has no part in the
    mean on structures that it finds almost nowhere
    (:func:`~segpref.judges.note_undrawn_structures`); where none has, the judge abstains (NaN).
    The predictions are computed once and kept in the cache.

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
    in_workers = True

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
        self._silence = UndrawnStructures(self.label_space, len(self._predictions))

    def prepare(self, dataset: Dataset) -> None:
        """Take in a dataset, whose cases are predicted when they are first scored."""
        for store in self._predictions:
            store.prepare(dataset)

    def predict(self, cases: Sequence[Case]) -> None:
        """Predict these cases now (:func:`~segpref.data.predictions.predict_ahead`)."""
        for store in self._predictions:
            store.predict(cases)

    def digest(self) -> str:
        """Name of the segmenters' weights."""
        return " ".join(store.predictor.digest() for store in self._predictions)

    @property
    def abstains_on(self) -> tuple[str, ...]:
        """Names of the structures on which it abstains."""
        return self._silence.structures

    def find_silence(self, dataset: Dataset) -> bool:
        """Find the structures that each draws almost nowhere; False where there is no image."""
        self.prepare(dataset)
        cases: Iterator[Case] = (dataset[place] for place in range(len(dataset)))
        return self._silence.measure((self.predictions(case), case.label) for case in cases)

    def predictions(self, case: Case) -> UInt8[np.ndarray, "M field *space"]:
        """The segmenters' own masks of a prepared case."""
        return np.stack([store[case] for store in self._predictions])

    def disagreement(self, case: Case) -> Float[np.ndarray, " field"]:
        """One minus the mean IoU of two different segmenters; 0 for a single one."""
        return self._disagreement(self.predictions(case))

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Mean IoU of every candidate with the segmenters' predictions."""
        predicted = self.predictions(case)
        scores = _mean(self._ious(predicted, slate.masks))
        if self.max_disagreement is not None:
            scores[:, self._disagreement(predicted) > self.max_disagreement] = np.nan
        return scores

    def uncertainty(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Standard deviation of a candidate's IoU over the segmenters; 0 for a single one."""
        predicted = self.predictions(case)
        each = self._ious(predicted, slate.masks)
        if not np.isnan(each).any():
            return np.asarray(np.std(each, axis=0, ddof=1 if len(each) > 1 else 0))
        valid = (~np.isnan(each)).sum(axis=0)
        spread = np.nanstd(np.where(valid, each, 0.0), axis=0)
        corrected = spread * np.sqrt(valid / np.maximum(valid - 1, 1))
        return np.where(valid, corrected, np.nan)

    def whole_scores(
        self,
        cases: Sequence[Case],
        masks: UInt8[np.ndarray, "item field *space"],
        space: LabelSpace,
    ) -> WholeScores:
        """IoU of a volume's mask with each segmenter's prediction, structure by structure.

        ``max_disagreement`` is not looked at: how far the segmenters disagree is reported beside.
        """
        rows = []
        for number, store in enumerate(self._predictions):
            own = np.stack([store[case] for case in cases])
            rows.append(whole_iou(masks, own, space, self._silence.counted(number)))
        return WholeScores.of(np.stack(rows))

    def _ious(
        self,
        references: UInt8[np.ndarray, "M field *space"],
        masks: UInt8[np.ndarray, "K field *space"],
    ) -> Float[np.ndarray, "M K field"]:
        """IoU of masks with those of each segmenter; NaN where it says nothing."""
        return np.stack(
            [
                slate_iou(masks, reference, self.label_space, counted=self._silence.counted(number))
                for number, reference in enumerate(references)
            ]
        )

    def _disagreement(
        self, predicted: UInt8[np.ndarray, "M field *space"]
    ) -> Float[np.ndarray, " field"]:
        """One minus the mean IoU of two different segmenters that both say something; 0 for less."""
        each = self._ious(predicted, predicted)
        # Of what a segmenter says nothing it is not compared in either role.
        each = np.where(np.isnan(np.einsum("mmf->mf", each))[None], np.nan, each)
        valid = (~np.isnan(each)).sum(axis=(0, 1))
        members = np.sqrt(valid)
        # A mask has the IoU 1 with itself, which is taken out of the mean over all ordered pairs.
        total = np.nansum(each, axis=(0, 1)) - members
        return np.where(members < 2, 0.0, 1 - total / np.maximum(valid - members, 1))


def _mean(each: Float[np.ndarray, "M K field"]) -> Float[np.ndarray, "K field"]:
    """Mean over those that say something; NaN if none does."""
    if not np.isnan(each).any():
        return np.asarray(np.mean(each, axis=0))
    valid = (~np.isnan(each)).sum(axis=0)
    return np.where(valid, np.nansum(each, axis=0) / np.maximum(valid, 1), np.nan)
