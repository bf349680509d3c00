from __future__ import annotations

import numpy as np
import pytest
import torch
from small_cases import CLASSES, LABELS, dataset, noise_slate, slate
from torch import Tensor, nn

from segpref.judges import RegressorJudge, regressor_input
from segpref.types import Judge, LabelSpace, Region

NESTED = LabelSpace(
    "multi-class", ("background", "a", "b"), (Region("whole", (1, 2)), Region("core", (2,)))
)


class Sizes(nn.Module):
    """The logit of a structure's IoU is the image's mean plus its size."""

    def __init__(self, structures: int) -> None:
        super().__init__()
        self.structures = structures
        self.weight = nn.Parameter(torch.ones(1))
        self.batches: list[int] = []

    def forward(self, batch: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.batches.append(len(batch))
        image, planes = batch[:, : -self.structures], batch[:, -self.structures :]
        return self.weight * (image.flatten(1).mean(1, keepdim=True) + planes.flatten(2).sum(2))


def sigmoid(z: object) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(z, float)))


def test_input_by_hand() -> None:
    image = torch.tensor([[[0.5, 0.25]]])
    masks = np.array([[[[1, 2]]], [[[0, 1]]]], np.uint8)
    expected = [[[[0.5, 0.25]], [[1, 0]], [[0, 1]]], [[[0.5, 0.25]], [[0, 1]], [[0, 0]]]]
    np.testing.assert_array_equal(regressor_input(image, masks, CLASSES), expected)
    nested = [[[[0.5, 0.25]], [[1, 1]], [[0, 1]]], [[[0.5, 0.25]], [[0, 1]], [[0, 0]]]]
    np.testing.assert_array_equal(regressor_input(image, masks, NESTED), nested)


def test_scores_by_hand() -> None:
    case = dataset([np.full((2, 1, 4), -1.5)], CLASSES)[0]
    judge = RegressorJudge(Sizes(2).train(), CLASSES)
    assert isinstance(judge, Judge)
    assert not judge.needs_label
    candidates = slate([[[1, 1, 2, 0]]], [[[1, 0, 0, 0]]])
    p = sigmoid(np.array([[2, 1], [1, 0]]) - 1.5)
    np.testing.assert_allclose(judge.predicted_iou(case, candidates.masks), p, rtol=1e-6)
    np.testing.assert_allclose(judge.score(case, candidates)[:, 0], p.mean(1), rtol=1e-6)
    # Class b, which nobody holds, does not count; where nobody holds anything, all do.
    alone = judge.score(case, slate([[[1, 1, 0, 0]]], [[[0] * 4]]))
    np.testing.assert_allclose(alone[:, 0], sigmoid([0.5, -1.5]), rtol=1e-6)
    nothing = judge.score(case, slate([[[0] * 4]], [[[0] * 4]]))
    np.testing.assert_allclose(nothing[:, 0], sigmoid(-1.5), rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5)])
def test_structures_are_fields_and_batches_do_not_matter(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    case = dataset([rng.standard_normal((1, *shape)) - 5], LABELS)[0]
    candidates = noise_slate(rng, LABELS, shape, 7)
    judge = RegressorJudge(Sizes(2), LABELS, batch_size=3)
    scores = judge.score(case, candidates)
    sizes = candidates.masks.reshape(7, 2, -1).sum(2)
    np.testing.assert_allclose(scores, sigmoid(case.image.mean() + sizes), rtol=1e-5)
    assert judge.network.batches == [3, 3, 1]  # type: ignore[comparison-overlap]
    np.testing.assert_allclose(RegressorJudge(Sizes(2), LABELS).score(case, candidates), scores)
