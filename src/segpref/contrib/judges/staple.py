"""STAPLE: the consensus of several raters, each weighted by agreement with the others."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64, UInt8

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.judges.raters import has_raters, raters_of
from segpref.judges.undrawn_structures import UndrawnStructures
from segpref.metrics import slate_iou
from segpref.types import IGNORE, Case, LabelSpace, Slate

__all__ = ["ConsensusJudge", "consensus", "staple"]


@checked()
class ConsensusJudge:
    """Scores a candidate by its IoU with what the raters together say, per field.

    ``IoU(y(k), STAPLE(y_1 ... y_R))`` (:func:`staple`), IoU as in :func:`~segpref.metrics.slate_iou`.
    It abstains on a field of which no rater says anything, and on structures that the consensus holds
    almost nowhere (:func:`~segpref.judges.note_undrawn_structures`): NaN, or left out of the mean. It
    reads ``case.raters``, which are labels.

    Args:
        label_space: what the masks mean.

    Raises:
        SegprefError: a case without raters' masks.
    """

    needs_label = True

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space
        self._silence = UndrawnStructures(label_space)

    @property
    def abstains_on(self) -> tuple[str, ...]:
        """Names of the structures on which it abstains."""
        return self._silence.structures

    def find_silence(self, dataset: Dataset) -> bool:
        """Find the structures that it holds almost nowhere; False where no image has raters."""
        cases = (dataset[place] for place in range(len(dataset)))
        rated = (case for case in cases if has_raters(case))
        return self._silence.measure(([self._agreed(case)], case.label) for case in rated)

    def _agreed(self, case: Case) -> UInt8[np.ndarray, "field *space"]:
        return consensus(raters_of(case), self.label_space)

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Agreement of every candidate with the consensus."""
        agreed = self._agreed(case)
        counted = self._silence.counted()
        scores = slate_iou(slate.masks, agreed, self.label_space, counted=counted)
        silent = (agreed == IGNORE).reshape(len(agreed), -1).all(axis=1)
        return np.where(silent, np.nan, scores)


def staple(
    ratings: UInt8[np.ndarray, "rater *space"],
    values: int,
    tolerance: float = 1e-7,
    iterations: int = 200,
) -> Float[np.ndarray, "value *space"]:
    """Probability of every value of the hidden truth at every pixel (Warfield et al., 2004).

    Expectation-maximisation in the multi-category form of their Sec. II-E: with ``theta[r, o, t]``
    the probability that rater ``r`` says ``o`` where the truth is ``t``, and a prior ``pi_t`` that is
    the share of ``t`` among all ratings and stays as it is,

        E:  W_it ~ pi_t prod_r theta[r, d_ir, t]          M:  theta[r, o, t] ~ sum_{i: d_ir = o} W_it

    For two values ``theta`` holds sensitivity and specificity. It begins at 0.99 on the diagonal.
    Pixels with equal ratings share one row of the computation, so its cost is the number of distinct
    ratings. No spatial prior.

    It agrees with SimpleITK's ``STAPLEImageFilter`` where every rater rates every pixel. It is not that
    filter because that one has no ratings that are missing: it would take them for a further value.

    Args:
        ratings: one label map per rater; :data:`~segpref.types.IGNORE` is a rating not given.
        values: number of values, at least 2.
        tolerance: stops when no probability of a rater changes more.
        iterations: how many at most.

    Returns:
        float64; the prior where no rater rates the pixel.
    """
    raters = len(ratings)
    flat = ratings.reshape(raters, -1)
    distinct, inverse, counts = _patterns(flat, values)
    # said[r, o, j]: rater r says o in pattern j; all zero where he says nothing.
    said = (distinct[:, None] == np.arange(values)[:, None]).astype(float)
    total = (said @ counts).sum(axis=0)
    prior = total / max(total.sum(), 1)
    theta = np.full((raters, values, values), 0.01 / max(values - 1, 1))
    theta[:, np.arange(values), np.arange(values)] = 0.99
    hidden = _expectation(said, theta, prior)
    for _ in range(iterations):
        weighed = np.einsum("roj,tj,j->rot", said, hidden, counts)
        mass = weighed.sum(axis=1, keepdims=True)
        update = np.where(mass > 0, weighed / np.where(mass > 0, mass, 1), theta)
        change = np.abs(update - theta).max()
        theta = update
        hidden = _expectation(said, theta, prior)
        if change < tolerance:
            break
    return hidden[:, inverse].reshape(values, *ratings.shape[1:])


def consensus(
    raters: UInt8[np.ndarray, "rater field *space"], label_space: LabelSpace
) -> UInt8[np.ndarray, "field *space"]:
    """Most probable mask under :func:`staple`, per field; of equal ones the lower value.

    ``IGNORE`` where no rater says anything.
    """
    fields = []
    for number in range(label_space.fields):
        ratings = raters[:, number]
        best = staple(ratings, label_space.values).argmax(axis=0).astype(np.uint8)
        fields.append(np.where((ratings == IGNORE).all(axis=0), np.uint8(IGNORE), best))
    return np.stack(fields)


def _patterns(
    flat: UInt8[np.ndarray, "rater pixel"], values: int
) -> tuple[
    UInt8[np.ndarray, "rater pattern"], Int64[np.ndarray, " pixel"], Int64[np.ndarray, " pattern"]
]:
    """Distinct columns, which of them each pixel has, and how many pixels have each."""
    codes = np.zeros(flat.shape[1], dtype=np.int64)
    # One rater after the other keeps the codes small, whatever the number of raters; and integers
    # are sorted many times faster than columns.
    for rating in flat:
        said = np.minimum(rating, values).astype(np.int64)
        _, codes = np.unique(codes * (values + 1) + said, return_inverse=True)
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return flat[:, first], codes, counts


def _expectation(
    said: Float[np.ndarray, "rater value pattern"],
    theta: Float[np.ndarray, "rater value value"],
    prior: Float[np.ndarray, " value"],
) -> Float[np.ndarray, "value pattern"]:
    given = said.sum(axis=1)[:, None]
    # A rater who says nothing of a pixel is the factor 1.
    each = np.einsum("roj,rot->rtj", said, theta) + (1 - given)
    weight = prior[:, None] * each.prod(axis=0)
    whole = weight.sum(axis=0)
    return np.where(whole > 0, weight / np.where(whole > 0, whole, 1), prior[:, None])
