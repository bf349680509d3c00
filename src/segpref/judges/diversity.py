"""A judge that also rewards candidates that differ from the others."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from segpref.checking import checked
from segpref.judges.wrapping import WrappingJudge
from segpref.judges.yaml_types import NamedJudge
from segpref.metrics import slate_iou
from segpref.types import Case, LabelSpace, SegprefError, Slate

__all__ = ["DiversityJudge"]


@checked()
class DiversityJudge(WrappingJudge):
    """Another judge's scores, less what a candidate has in common with the others of its slate.

    ``s(k) - weight 1/(K-1) sum_{j != k} Dice(y(k), y(j))`` per field.

    It is for models whose candidates are their samples. With Mean Dice as the other judge
    (:class:`~segpref.judges.RatersJudge` with ``measure="dice"``) and weight 1 it orders samples by
    what they do to GED, to first order. Of ``GED = 2 E[d(X, Y)] - E[d(X, X')] - E[d(Y, Y')]`` with
    ``d = 1 - Dice``, raters Y and samples X, a little more weight on one mask x changes ``2 E[d(x, Y)]
    - 2 E[d(x, X')]`` (but for what is the same for all x), which falls as the score rises. That holds
    for the model that drew the slate: one that has moved far from it needs slates of its own
    (``refresh``). With weight 0 it is Mean Dice of TDG-DiffDPO (Sec. 3.4.2), which raises accuracy
    alone and lets diversity go; weights between are a compromise.

    Each Dice or IoU follows :func:`~segpref.metrics.slate_iou`: empty against empty is 1. NaN of the
    other judge stays NaN; a candidate that is alone in its slate has nothing in common with others.

    Args:
        judge: whose scores are changed.
        label_space: what the masks mean.
        weight: of what is in common, from 0.
        measure: ``dice`` or ``iou``; that of the other judge, if the two are to be weighed up.

    Raises:
        SegprefError: an unknown measure, or a weight below 0.
    """

    def __init__(
        self,
        judge: NamedJudge,
        label_space: LabelSpace,
        weight: float = 1.0,
        measure: Literal["dice", "iou"] = "dice",
    ) -> None:
        if not 0 <= weight < np.inf:
            raise SegprefError(f"a diversity judge's weight is a number from 0, not {weight}")
        if measure not in ("dice", "iou"):
            raise SegprefError(f"diversity is measured as dice or iou, not {measure!r}")
        super().__init__(judge)
        self.label_space = label_space
        self.weight = weight
        self.measure = measure

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """The other judge's scores, less what is in common."""
        scores = np.asarray(self.judge.score(case, slate), dtype=np.float64)
        if len(slate) < 2:
            return scores
        alike = np.stack(
            [
                slate_iou(slate.masks, mask, self.label_space, measure=self.measure)
                for mask in slate.masks
            ]
        )
        # A mask is like itself, by exactly 1.
        in_common = (alike.sum(axis=0) - 1) / (len(slate) - 1)
        return np.asarray(scores - self.weight * in_common)
