"""A judge that scores a candidate by the probability that a segmenter assigns to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch.nn import functional

from segpref.checking import checked
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.predictions import PredictionStore
from segpref.judges.undrawn_structures import UndrawnStructures
from segpref.judges.yaml_types import NamedPredictor
from segpref.types import Case, SegprefError, Slate

__all__ = ["ConfidenceJudge"]

_BLOCK = 1 << 16


@checked()
class ConfidenceJudge:
    """Scores a candidate by a segmenter's confidence in it, aggregated over a region.

    Zenk et al. (2025) detect failures by the confidence in a segmenter's *own* prediction: pixel
    confidences are aggregated over the image, the prediction or its boundary, and images are ranked.
    Here *candidates* of one image are ranked, so the confidence of a pixel is that in what the
    candidate says there. For a structure with the probability ``p_i`` and a candidate ``y``::

        c_i = p_i where y holds the structure, 1 - p_i elsewhere
        s   = mean of c_i (``probability``) or of log c_i (``log-likelihood``) over the region

    The region is

    - ``image``: all pixels. With ``log-likelihood`` of a multi-label mask this is DPO's likelihood.
    - ``foreground``: the candidate's structure together with the segmenter's own. The candidate's
      alone, as Zenk et al. aggregate, would favour masks that shrink to a confident core.
    - ``boundary``: the pixels on either side of the candidate's contour (4- or 6-neighbours); a
      candidate without a contour is asked about that of the segmenter's own prediction.

    Per field; of a multi-class mask the mean over the structures that any candidate or the segmenter
    holds. Empty against empty is full confidence: 1, or 0 in logarithms. On structures that the
    segmenter finds almost nowhere (:func:`~segpref.judges.note_undrawn_structures`) that confidence
    says nothing, and the judge abstains: NaN, or left out of the mean. Logits are computed once and
    kept in the cache; sums run in blocks in float32 and are added in float64.

    Args:
        predictor: the segmenter; the policy's own start will do.
        over: the region.
        of: what is averaged over it.
        cache: where its logits are kept.

    Raises:
        SegprefError: an unknown region or average.
    """

    needs_label = False

    def __init__(
        self,
        predictor: NamedPredictor,
        over: Literal["image", "foreground", "boundary"] = "foreground",
        of: Literal["probability", "log-likelihood"] = "probability",
        cache: Cache | None = None,
    ) -> None:
        if over not in ("image", "foreground", "boundary"):
            raise SegprefError(
                f"a confidence judge looks over image, foreground or boundary, not {over!r}"
            )
        if of not in ("probability", "log-likelihood"):
            raise SegprefError(
                f"a confidence judge averages probability or log-likelihood, not {of!r}"
            )
        self.label_space = predictor.label_space
        self.over = over
        self.of = of
        self._logits = PredictionStore(predictor, "logits", cache or Cache())
        self._silence = UndrawnStructures(self.label_space)

    def digest(self) -> str:
        """Name of the segmenter's weights."""
        return self._logits.predictor.digest()

    def prepare(self, dataset: Dataset) -> None:
        """Take in a dataset, whose cases are predicted when they are first scored."""
        self._logits.prepare(dataset)

    def predict(self, cases: Sequence[Case]) -> None:
        """Predict these cases now (:func:`~segpref.data.predictions.predict_ahead`)."""
        self._logits.predict(cases)

    @property
    def abstains_on(self) -> tuple[str, ...]:
        """Names of the structures on which it abstains."""
        return self._silence.structures

    def find_silence(self, dataset: Dataset) -> bool:
        """Find the structures that it draws almost nowhere; False where there is no image."""
        self.prepare(dataset)
        cases = (dataset[place] for place in range(len(dataset)))
        return self._silence.measure(([self._mask(case)], case.label) for case in cases)

    def _mask(self, case: Case) -> UInt8[np.ndarray, "field *space"]:
        """The segmenter's own mask of a prepared case."""
        logits = torch.from_numpy(np.array(self._logits[case])).float()
        return np.asarray(self.label_space.decode(logits, channel_dim=0).numpy())

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Confidence in every candidate."""
        space = self.label_space
        masks = np.moveaxis(space.structure_masks(slate.masks, field_axis=1), 1, 0)
        inside, outside = self._log_probabilities(case)
        own = inside > outside
        if self.of == "probability":
            inside, outside = np.exp(inside), np.exp(outside)
        scores = np.stack(
            [self._confidence(*each) for each in zip(masks, own, inside, outside, strict=True)],
            axis=1,
        )
        held = masks.reshape(*masks.shape[:2], -1).any((1, 2)) | own.reshape(len(own), -1).any(1)
        return self._silence.field_scores(scores, np.asarray(held))

    def _confidence(
        self,
        masks: Bool[np.ndarray, "K *space"],
        own: Bool[np.ndarray, "*space"],
        inside: Float[np.ndarray, "*space"],
        outside: Float[np.ndarray, "*space"],
    ) -> Float[np.ndarray, " K"]:
        """Mean confidence in one structure."""
        count = len(masks)
        region = self._region(masks, own).reshape(count, -1)
        flat = masks.reshape(count, -1)
        total = _weighted(region & flat, inside.ravel()) + _weighted(
            region & ~flat, outside.ravel()
        )
        pixels = region.sum(axis=1)
        certain = 1.0 if self.of == "probability" else 0.0
        return np.where(pixels > 0, total / np.maximum(pixels, 1), certain)

    def _region(
        self, masks: Bool[np.ndarray, "K *space"], own: Bool[np.ndarray, "*space"]
    ) -> Bool[np.ndarray, "K *space"]:
        if self.over == "image":
            return np.ones_like(masks)
        if self.over == "foreground":
            return np.asarray(masks | own)
        region = _contours(masks)
        bare = ~region.reshape(len(masks), -1).any(axis=1)
        region[bare] = _contours(own[None])[0]
        return region

    def _log_probabilities(
        self, case: Case
    ) -> tuple[Float[np.ndarray, "structure *space"], Float[np.ndarray, "structure *space"]]:
        """Log-probability of every structure, and of its absence."""
        space = self.label_space
        z = torch.from_numpy(np.array(self._logits[case])).float()
        if space.kind == "multi-label":
            return functional.logsigmoid(z).numpy(), functional.logsigmoid(-z).numpy()
        each = functional.log_softmax(z, dim=0)
        groups = [region.values for region in space.regions] or [
            (v,) for v in range(1, space.values)
        ]
        rests = [[v for v in range(space.values) if v not in group] for group in groups]
        inside = [each[list(group)].logsumexp(dim=0) for group in groups]
        outside = [each[rest].logsumexp(dim=0) for rest in rests]
        return torch.stack(inside).numpy(), torch.stack(outside).numpy()


def _weighted(
    chosen: Bool[np.ndarray, "K pixel"], weights: Float[np.ndarray, " pixel"]
) -> Float[np.ndarray, " K"]:
    """Sum of the weights of the chosen pixels; in blocks, for volumes are large as floats."""
    total = np.zeros(len(chosen))
    for start in range(0, chosen.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        total += chosen[:, block].astype(np.float32) @ weights[block]
    return total


def _contours(masks: Bool[np.ndarray, "K *space"]) -> Bool[np.ndarray, "K *space"]:
    """Pixels with a neighbour along an axis on the other side of the contour."""
    found = np.zeros_like(masks)
    for axis in range(1, masks.ndim):
        length = masks.shape[axis]
        low = (slice(None),) * axis + (slice(0, length - 1),)
        high = (slice(None),) * axis + (slice(1, length),)
        differs = masks[low] != masks[high]
        found[low] |= differs
        found[high] |= differs
    return found
