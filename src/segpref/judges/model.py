"""The model-based judge of the paper: overlap with the prediction of an auxiliary segmenter."""

from __future__ import annotations

from collections.abc import Sequence

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
from segpref.types import Case, LabelSpace, Slate

__all__ = ["ModelJudge"]


@checked()
class ModelJudge:
    """Scores a candidate by its IoU with the judge's own prediction (RN-DPO, Sec. 3.2).

    ``s(k) = IoU(y(k), y_J(x))``, per field; of a multi-class mask the mean over the foreground
    classes present in the judge's prediction or in any candidate of the slate. Empty against empty
    is 1, but on structures that it finds almost nowhere it abstains
    (:func:`~segpref.judges.note_undrawn_structures`): NaN, or left out of the mean. The
    predictions are computed once and kept in the cache.

    Args:
        predictor: the auxiliary segmenter, trained on the ``N_QC`` cases.
        cache: where its predictions are kept.
    """

    needs_label = False
    in_workers = True

    def __init__(self, predictor: NamedPredictor, cache: Cache | None = None) -> None:
        self._predictions = PredictionStore(predictor, "masks", cache or Cache())
        self._silence = UndrawnStructures(predictor.label_space)

    def prepare(self, dataset: Dataset) -> None:
        """Take in a dataset, whose cases are predicted when they are first scored."""
        self._predictions.prepare(dataset)

    def predict(self, cases: Sequence[Case]) -> None:
        """Predict these cases now (:func:`~segpref.data.predictions.predict_ahead`)."""
        self._predictions.predict(cases)

    def digest(self) -> str:
        """Name of the segmenter's weights."""
        return self._predictions.predictor.digest()

    @property
    def abstains_on(self) -> tuple[str, ...]:
        """Names of the structures on which it abstains."""
        return self._silence.structures

    def find_silence(self, dataset: Dataset) -> bool:
        """Find the structures that it draws almost nowhere; False where there is no image."""
        self.prepare(dataset)
        cases = (dataset[place] for place in range(len(dataset)))
        return self._silence.measure(([self.own_mask(case)], case.label) for case in cases)

    def own_mask(self, case: Case) -> UInt8[np.ndarray, "field *space"]:
        """The judge's own mask of a prepared case."""
        return self._predictions[case]

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """IoU of every candidate with the judge's prediction."""
        space = self._predictions.predictor.label_space
        counted = self._silence.counted()
        return slate_iou(slate.masks, self._predictions[case], space, counted=counted)

    def whole_scores(
        self,
        cases: Sequence[Case],
        masks: UInt8[np.ndarray, "item field *space"],
        space: LabelSpace,
    ) -> WholeScores:
        """IoU of a volume's mask with the judge's prediction, structure by structure."""
        own = np.stack([self._predictions[case] for case in cases])
        return WholeScores.of(whole_iou(masks, own, space, self._silence.counted())[None])
