"""A judge that compares candidates with several raters' masks of the image."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.judges.undrawn_structures import UndrawnStructures
from segpref.metrics import slate_iou
from segpref.types import IGNORE, Case, LabelSpace, SegprefError, Slate

__all__ = ["RatersJudge", "has_raters", "raters_of"]

Mask = UInt8[np.ndarray, "field *space"]


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
    everywhere) has no voice on it; without any voice the judge abstains. It also abstains on structures
    that the raters together find almost nowhere (:func:`~segpref.judges.note_undrawn_structures`), for
    they were not asked about them, or too few images have them: NaN, or left out of the mean.

    It reads ``case.raters``, which are labels, so ``needs_label`` is true.

    Args:
        label_space: what the masks mean.
        agreement: with whom.
        measure: ``iou`` or ``dice``.

    Raises:
        SegprefError: an unknown agreement or measure, or a case without raters' masks.
    """

    needs_label = True
    in_workers = True

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
        # Together they draw structures that may overlap, even those of an exclusive label map.
        self._silence = UndrawnStructures(LabelSpace("multi-label", label_space.structures))

    @property
    def abstains_on(self) -> tuple[str, ...]:
        """Names of the structures on which it abstains."""
        return self._silence.structures

    def find_silence(self, dataset: Dataset) -> bool:
        """Find the structures that no rater draws almost anywhere; False where no image has raters."""
        cases = (dataset[place] for place in range(len(dataset)))
        return self._silence.measure(map(self._together, (one for one in cases if has_raters(one))))

    def _together(self, case: Case) -> tuple[list[Mask], Mask | None]:
        """What any rater draws of each structure, and the label's, if there is one."""
        space = self.label_space
        raters = raters_of(case)
        drawn = space.structure_masks(raters, field_axis=1).any(axis=0).astype(np.uint8)
        unsaid = (raters == IGNORE).all(axis=0)
        label = None if case.label is None else space.structure_masks(np.asarray(case.label))
        said = np.where(unsaid, np.uint8(IGNORE), drawn)
        return [said], None if label is None else label.astype(np.uint8)

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Agreement of every candidate with the raters."""
        raters = raters_of(case)
        voices = (raters != IGNORE).reshape(*raters.shape[:2], -1).any(axis=2)
        each = np.stack(
            [
                slate_iou(
                    slate.masks,
                    one,
                    self.label_space,
                    measure=self.measure,
                    counted=self._silence.counted(),
                )
                for one in raters
            ]
        )
        heard = np.broadcast_to(voices[:, None], each.shape)
        if self.agreement == "mean":
            scores = np.where(heard, each, 0).sum(axis=0) / np.maximum(voices.sum(axis=0), 1)
        else:
            scores = np.where(heard, each, 0).max(axis=0)
        return np.where(voices.any(axis=0), scores, np.nan)


def has_raters(case: Case) -> bool:
    """Whether there are masks of raters."""
    return case.raters is not None and len(case.raters) > 0


def raters_of(case: Case) -> UInt8[np.ndarray, "rater field *space"]:
    """The raters' masks of a case.

    Raises:
        SegprefError: it has none.
    """
    if not has_raters(case):
        raise SegprefError(
            f"{case.id} has no masks of several raters: judge it with the oracle or a model"
        )
    return np.asarray(case.raters)
