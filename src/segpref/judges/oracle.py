"""The oracle judge, which reads the label: an upper bound, for analysis only."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from segpref.checking import checked
from segpref.metrics import slate_iou
from segpref.types import Case, LabelSpace, SegprefError, Slate

__all__ = ["OracleJudge"]


@checked()
class OracleJudge:
    """Scores a candidate by its IoU with the ground truth (the oracle rows of Tables 2 and 3).

    Unlike other judges it never abstains on a structure that it finds almost nowhere: its mask is the
    label, by which candidates are measured in any case, so that an empty label says that the structure
    is absent. What a label does not say is ``IGNORE`` there, and does not count. Labels that leave a
    structure out without saying so mislead the oracle as they mislead every metric; the row of that
    structure in an audit shows it, with 100 % empty labels.

    Args:
        label_space: what the masks mean.
        measure: IoU, or Dice, by which MAPO ranks (Eq. 3).
    """

    needs_label = True
    in_workers = True

    def __init__(self, label_space: LabelSpace, measure: Literal["iou", "dice"] = "iou") -> None:
        self.label_space = label_space
        self.measure = measure

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """IoU or Dice with the label, of structures that it tells of; empty against empty is 1."""
        if case.label is None:
            raise SegprefError(f"{case.id} has no label, so the oracle can't judge it")
        space = self.label_space
        counted = space.labelled
        return slate_iou(slate.masks, case.label, space, measure=self.measure, counted=counted)
