"""A judge that trusts a segmenter where its prediction is stable under small image changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from segpref.checking import checked
from segpref.data.cache import Cache
from segpref.judges.ensemble import EnsembleJudge
from segpref.judges.wrapping import WrappingJudge
from segpref.judges.yaml_types import NamedPredictor
from segpref.types import Case, Predictor, SegprefError, Slate

__all__ = ["ConsistencyJudge"]


@checked(max_disagreement={"least": 0, "most": 1})
class ConsistencyJudge(WrappingJudge):
    """Scores a candidate by its agreement with a segmenter under test-time changes of the image.

    The image is looked at as it is, with each of some axes flipped, and with each of some gammas
    (``u^gamma`` on intensities scaled to 0 ... 1 per image and channel); flipped predictions are
    flipped back. Then, per field (Wang et al., 2019, use such predictions for uncertainty):

    - ``views``: ``s(k) = 1/V sum_v IoU(y(k), y^(v)(x))``, the mean over the V predictions, which is
      RN-DPO's Eq. 14 with views in the place of segmenters;
    - ``mean``: ``s(k) = IoU(y(k), decode(1/V sum_v p^(v)(x)))``, against the one mask of the mean
      probabilities.

    IoUs and empty masks as in :class:`~segpref.judges.EnsembleJudge`; so is abstaining where the
    views disagree, which needs ``views``. Predictions are computed once and kept in the cache.

    Args:
        predictor: the segmenter; the policy's own start will do.
        flips: spatial axes, 0 for the first; none by default, for left and right differ in most
            anatomies and a network that was trained without flips does not know them.
        gammas: exponents above 0.
        against: ``views`` or ``mean``.
        max_disagreement: above which the judge abstains, from 0 to 1; never where None.
        cache: where predictions are kept.

    Raises:
        SegprefError: no change at all, a gamma that is not above 0, or abstaining asked of ``mean``.
    """

    needs_label = False

    def __init__(
        self,
        predictor: NamedPredictor,
        flips: Sequence[int] = (),
        gammas: Sequence[float] = (0.7, 0.85, 1.2, 1.5),
        against: Literal["views", "mean"] = "views",
        max_disagreement: float | None = None,
        cache: Cache | None = None,
    ) -> None:
        if not (flips or gammas):
            raise SegprefError("a consistency judge needs at least one flip or gamma")
        if any(gamma <= 0 for gamma in gammas):
            raise SegprefError(f"a consistency judge's gammas must be above 0, not {list(gammas)}")
        if against == "mean" and max_disagreement is not None:
            raise SegprefError(
                "a consistency judge abstains by its single views: take against: views, or leave "
                "max_disagreement out"
            )
        views: list[NamedPredictor] = [
            _View(predictor),
            *(_View(predictor, flip=axis) for axis in flips),
            *(_View(predictor, gamma=gamma) for gamma in gammas),
        ]
        super().__init__(
            EnsembleJudge(
                views if against == "views" else [_MeanOfViews(views)], max_disagreement, cache
            )
        )

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Agreement of every candidate with the views."""
        return self.judge.score(case, slate)


class _View:
    """A predictor that sees a changed image; its prediction is changed back."""

    def __init__(
        self, predictor: Predictor, flip: int | None = None, gamma: float | None = None
    ) -> None:
        self.label_space = predictor.label_space
        self._predictor, self._flip, self._gamma = predictor, flip, gamma

    def logits(self, images: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B C *space"]:
        if self._flip is not None:
            if not 0 <= self._flip < images.ndim - 2:
                raise SegprefError(
                    f"a consistency judge can't flip axis {self._flip} of images with "
                    f"{images.ndim - 2} axes: name axes from 0"
                )
            axis = self._flip + 2
            return self._predictor.logits(images.flip(axis)).flip(axis)
        if self._gamma is not None:
            images = _with_gamma(images, self._gamma)
        return self._predictor.logits(images)

    def digest(self) -> str:
        own = self._predictor.digest()
        if self._flip is None and self._gamma is None:
            return own  # shares the cache with predictions of the unchanged image
        return f"{own} flip {self._flip} gamma {self._gamma}"


class _MeanOfViews:
    """A predictor whose probabilities are the mean over views."""

    def __init__(self, views: Sequence[Predictor]) -> None:
        self.label_space = views[0].label_space
        self._views = views

    def logits(self, images: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B C *space"]:
        z = torch.stack([view.logits(images).float() for view in self._views])
        if self.label_space.kind == "multi-class":
            return functional.log_softmax(z, dim=2).logsumexp(dim=0)
        return functional.logsigmoid(z).logsumexp(dim=0) - functional.logsigmoid(-z).logsumexp(
            dim=0
        )

    def digest(self) -> str:
        return "mean of " + ", ".join(view.digest() for view in self._views)


def _with_gamma(
    images: Float[Tensor, "B channel *space"], gamma: float
) -> Float[Tensor, "B channel *space"]:
    space = tuple(range(2, images.ndim))
    low, high = images.amin(space, keepdim=True), images.amax(space, keepdim=True)
    width = torch.where(high > low, high - low, 1.0)
    return low + width * ((images - low) / width).pow(gamma)
