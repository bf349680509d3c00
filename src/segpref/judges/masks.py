"""A judge that compares candidates with masks on disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.data.masks import MaskFolder
from segpref.judges.undrawn_structures import UndrawnStructures
from segpref.judges.whole_masks import WholeScores, whole_iou
from segpref.metrics import slate_iou
from segpref.types import IGNORE, Case, LabelSpace, Slate

__all__ = ["MasksJudge"]


@checked()
class MasksJudge:
    """Scores a candidate by its IoU with the mask that another program made of the image.

    The model-based judge of RN-DPO (Sec. 3.2) where the auxiliary segmenter is not at hand, but its
    masks are: ``s(k) = IoU(y(k), y_J)`` by :func:`~segpref.metrics.slate_iou`, per field; empty against
    empty is 1. It abstains (NaN) on images without a mask, on structures without a file, and on
    structures that it finds almost nowhere (:func:`~segpref.judges.note_undrawn_structures`).

    Args:
        masks: the folder.
    """

    needs_label = False
    in_workers = True

    def __init__(self, masks: MaskFolder) -> None:
        self.masks = masks
        self._silence = UndrawnStructures(masks.label_space)

    def digest(self) -> str:
        """Name of the masks' content."""
        return self.masks.digest()

    @property
    def abstains_on(self) -> tuple[str, ...]:
        """Names of the structures on which it abstains."""
        return self._silence.structures

    def find_silence(self, dataset: Dataset) -> bool:
        """Find the structures that it draws almost nowhere; False where it has no mask at all."""
        self.prepare(dataset)
        cases = (dataset[place] for place in range(len(dataset)))
        known = ((self.masks[case], case.label) for case in cases)
        return self._silence.measure(([mask], label) for mask, label in known if mask is not None)

    def require(self, dataset: Dataset) -> None:
        """Check that there are masks of some of the images, and warn about the others.

        Raises:
            SegprefError: on none of them.
        """
        self.masks.require(dataset, "on these the judge abstains")

    def prepare(self, dataset: Dataset) -> None:
        """Read the masks of all images of the dataset."""
        self.masks.prepare(dataset)

    def own_mask(self, case: Case) -> UInt8[np.ndarray, "field *space"] | None:
        """The mask of a prepared case on disk; None where there is none, or not of all fields."""
        mask = self.masks[case]
        if mask is None or (mask == IGNORE).reshape(len(mask), -1).all(axis=1).any():
            return None
        return mask

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """IoU of every candidate with the mask on disk."""
        mask = self.masks[case]
        if mask is None:
            return np.full((len(slate), slate.masks.shape[1]), np.nan)
        counted = self._silence.counted()
        scores = slate_iou(slate.masks, mask, self.masks.label_space, counted=counted)
        known = (mask != IGNORE).reshape(len(mask), -1).any(axis=1)
        return np.where(known, scores, np.nan)

    def whole_scores(
        self,
        cases: Sequence[Case],
        masks: UInt8[np.ndarray, "item field *space"],
        space: LabelSpace,
    ) -> WholeScores:
        """IoU of a volume's mask with the one on disk, structure by structure; NaN without one."""
        own = [mask for case in cases if (mask := self.masks[case]) is not None]
        if not own:
            return WholeScores.of(np.full((1, len(space.structures)), np.nan))
        scores = whole_iou(masks, np.stack(own), space, self._silence.counted())
        return WholeScores.of(scores[None])
