"""A trained judge: a network that predicts the IoU of a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segpref.checking import checked
from segpref.data.dataset import Dataset
from segpref.judges.undrawn_structures import UndrawnStructures
from segpref.judges.whole_masks import WholeScores
from segpref.networks import weights_digest
from segpref.runtime import moved, runtime
from segpref.types import Case, LabelSpace, Slate

__all__ = ["RegressorJudge", "regressor_input"]


@checked(batch_size={"least": 1})
class RegressorJudge:
    """Scores a candidate by the IoU that a network predicts from image and candidate.

    The IoU regressor of RN-DPO's judge ablation (Table 5): ``s(k) = f(x, y(k))``, without any mask of
    the judge's own. The network predicts one IoU per structure; of a multi-class mask the score is
    the mean over the foreground structures that any candidate holds (all if none holds any), so
    that all candidates are scored on the same ones. What the network says of an empty mask is what it
    learned: 1 where the structure is absent from the image, 0 elsewhere. Where its training labels
    lacked a structure, it learned that drawing nothing is right; so it abstains (NaN, or left out of
    the mean) on structures that it hardly ever recognises (:meth:`find_silence`).

    :func:`segpref.training.fit_regressor` trains the network and
    :func:`segpref.training.load_regressor` makes the judge from its file; name that function as
    ``class_path`` in YAML.

    Args:
        network: maps ``[B, channel + structure, *space]`` (:func:`regressor_input`) to the logits
            ``[B, structure]`` of the IoUs; placed on the runtime's device and used in evaluation mode.
        label_space: what the masks mean.
        batch_size: candidates per pass.
        labelled: patients whose labels the network was trained with.

    Raises:
        SegprefError: an argument of another type, or a batch size below 1.
    """

    needs_label = False

    def __init__(
        self,
        network: nn.Module,
        label_space: LabelSpace,
        batch_size: int = 16,
        labelled: Sequence[str] = (),
    ) -> None:
        self.network = runtime().place(network).eval()
        self.label_space = label_space
        self.labelled = tuple(labelled)
        self._batch_size = batch_size
        self._silence = UndrawnStructures(label_space)

    def predicted_iou(
        self, case: Case, masks: UInt8[np.ndarray, "K field *space"]
    ) -> Float[np.ndarray, "K structure"]:
        """IoUs that the network expects, float32."""
        device = next(self.network.parameters()).device
        image = torch.from_numpy(np.array(case.image))
        parts = []
        with torch.no_grad():
            for start in range(0, len(masks), self._batch_size):
                some = masks[start : start + self._batch_size]
                batch = moved(regressor_input(image, some, self.label_space), device)
                parts.append(torch.sigmoid(self.network(batch).float()).cpu().numpy())
        return np.concatenate(parts)

    def score(self, case: Case, slate: Slate) -> Float[np.ndarray, "K field"]:
        """Predicted IoU of every candidate."""
        expected = self.predicted_iou(case, slate.masks).astype(np.float64)
        planes = self.label_space.structure_masks(slate.masks, field_axis=1)
        held = np.moveaxis(planes, 1, 0).reshape(planes.shape[1], -1).any(axis=1)
        return self._silence.field_scores(expected, np.asarray(held))

    def whole_scores(
        self,
        cases: Sequence[Case],
        masks: UInt8[np.ndarray, "item field *space"],
        space: LabelSpace,
    ) -> WholeScores:
        """Predicted IoU of a volume's mask, structure by structure.

        The mean over its items, each with the number of voxels that are drawn in it as its weight; over
        all items where nothing is drawn.
        """
        each = [
            self.predicted_iou(case, mask[None])[0] for case, mask in zip(cases, masks, strict=True)
        ]
        planes = space.structure_masks(masks, field_axis=1)
        weights = planes.reshape(*planes.shape[:2], -1).sum(axis=2).astype(float)
        weights[:, weights.sum(axis=0) == 0] = 1
        scores = (np.stack(each) * weights).sum(axis=0) / weights.sum(axis=0)
        counted = self._silence.counted()
        return WholeScores.of(np.where(True if counted is None else counted, scores, np.nan)[None])

    def digest(self) -> str:
        """Name of the network's weights."""
        return weights_digest(self.network.state_dict())

    @property
    def abstains_on(self) -> tuple[str, ...]:
        """Names of the structures on which it abstains."""
        return self._silence.structures

    def find_silence(self, dataset: Dataset) -> bool:
        """Find the structures that it hardly ever recognises; False where no image has a label.

        It recognises a structure where it expects more of the label than of the same label without the
        structure, and is asked only about images that have it. Of a structure that no label has nothing
        is known, so it counts as one that is not recognised.
        """
        count = len(self.label_space.structures)
        found, due = np.zeros((1, count), int), np.zeros((1, count), int)
        labelled = dataset.labelled()
        for place in range(len(labelled)):
            case = labelled[place]
            label = np.asarray(case.label)
            planes = self.label_space.structure_masks(label)
            for number in np.flatnonzero(planes.reshape(count, -1).any(axis=1)):
                gone = np.zeros_like(label)
                gone[number if len(label) > 1 else 0] = planes[number]
                without = np.where(gone > 0, np.uint8(0), label)
                expected = self.predicted_iou(case, np.stack([label, without]))[:, number]
                due[0, number] += 1
                found[0, number] += expected[0] > expected[1]
        if len(labelled):
            self._silence.conclude(found, due)
        return len(labelled) > 0


def regressor_input(
    image: Float[Tensor, "channel *space"],
    masks: UInt8[np.ndarray, "K field *space"],
    label_space: LabelSpace,
) -> Float[Tensor, "K input *space"]:
    """The image with one plane per structure of each mask, as float32."""
    planes = torch.from_numpy(label_space.structure_masks(masks, field_axis=1)).float()
    repeated = image.float().expand(len(masks), *image.shape)
    return torch.cat((repeated, planes), dim=1)
