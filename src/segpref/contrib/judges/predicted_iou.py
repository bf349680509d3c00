"""SAM's own estimate of a mask's quality as a judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from segpref.checking import checked
from segpref.judges.yaml_types import NamedPredictor
from segpref.prompts import Prompt, Promptable, box_of, mask_logits
from segpref.types import Case, LabelSpace, SegprefError, Slate

__all__ = ["PredictedIoU"]


@checked()
class PredictedIoU:
    """Asks a promptable model with the candidate as its prompt and takes the IoU that it predicts.

    SAM predicts the IoU of the mask that it gives, not of one that it is shown. So the candidate is
    its mask prompt, with the box around it, and the score is the predicted IoU of the answer,
    times (with ``agreement``) the IoU of candidate and answer: what SAM does not draw again when it is
    shown it, it does not believe in. An empty candidate can't be asked about; it scores 0.

    Args:
        model: a promptable model; frozen, and better not the policy itself.
        agreement: whether the score is multiplied by the IoU of candidate and answer.

    Raises:
        SegprefError: the model takes no prompts.
    """

    needs_label = False

    def __init__(self, model: NamedPredictor, agreement: bool = True) -> None:
        if not isinstance(model, Promptable):
            raise SegprefError(
                f"a {type(model).__name__} predicts no IoU of its masks: name a promptable model"
            )
        self.model = model
        self.agreement = agreement
        self.label_space: LabelSpace = model.label_space

    def digest(self) -> str:
        """Name of the model's weights and prompts."""
        return self.model.digest()

    def prepare(self, dataset: Any) -> None:
        """Embed the dataset's images once."""
        if hasattr(self.model, "prepare"):
            self.model.prepare(dataset)

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Predicted IoU of every candidate."""
        assert isinstance(self.model, Promptable)
        image = torch.from_numpy(np.array(case.image))[None]
        prompts = [[_shown(mask == 1) for mask in masks] for masks in slate.masks]
        answer = self.model.ask(image, prompts)
        scores = answer.quality[:, 0].cpu().numpy().astype(np.float64)
        held = slate.masks == 1
        if self.agreement:
            scores = scores * _iou(held, (answer.logits[:, 0] > 0).cpu().numpy())
        scores[~held.any(axis=(2, 3))] = 0
        return scores


def _shown(mask: np.ndarray) -> Prompt:
    box = box_of(mask)
    return Prompt() if box is None else Prompt(box, mask=mask_logits(mask))


def _iou(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "K field"]:
    common = (one & other).sum(axis=(2, 3))
    return np.asarray(common / np.maximum((one | other).sum(axis=(2, 3)), 1))
