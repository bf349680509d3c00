"""Volumes relative to the reference's: of the reference as it is now, and of the image alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segpref.data import LabelPlaces, PatchDraw, Preparation
from segpref.policies import Segmenter
from segpref.proposals import SlateProposals
from segpref.training import PreferenceStep, ScoredSlates, StepResult, StepSlates
from segpref.types import Candidate, Case, LabelSpace, Slate

SPACE = LabelSpace("multi-class", ("background", "bright"))


def all_bright() -> Segmenter:
    network = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([0.0, 1.0]))
    return Segmenter(network, SPACE)


def cases(*shape: int) -> list[Case]:
    rng = np.random.default_rng(0)
    images = rng.random((2, 1, *shape), dtype=np.float32)
    return [
        Case(id=name, patient=name, volume=name, image=image)
        for name, image in zip("ab", images, strict=True)
    ]


def nothing_learned(batch: Any) -> StepResult:
    return StepResult(None, 0)


class Indifferent:
    needs_label = False

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        return np.zeros((len(slate), 1))


def bright_rows(rows: int, count: int) -> Tensor:
    """Logits of a reference that finds the first rows of 6 x 6 images bright."""
    logits = torch.zeros(count, 2, 6, 6)
    logits[:, 1] = -1
    logits[:, 1, :rows] = 1
    return logits


def test_a_reference_that_moves_is_counted_anew() -> None:
    def slates(
        indices: Sequence[int], found: Any, images: Any, state: Any, epoch: int, number: int
    ) -> ScoredSlates:
        slate = Slate(np.ones((1, 1, 6, 6), np.uint8), (Candidate("anchor"),))
        count = len(indices)
        return ScoredSlates(
            [slate] * count, [np.zeros((1, 1))] * count, bright_rows(epoch + 1, count)
        )

    pool: Any = cases(6, 6)
    step = PreferenceStep(all_bright(), pool, slates, nothing_learned, 0)
    for epoch in range(3):
        for number in range(2):
            found = step([0, 1], epoch, number).logs["volume_ratio_bright"]
            assert found == (2 * 36, 2 * 6 * (epoch + 1))


@pytest.mark.parametrize("shape", [(5, 6), (5, 12)])
def test_padding_counts_for_neither(shape: tuple[int, ...]) -> None:
    policy = all_bright()
    draw = PatchDraw(Preparation(dims=2, patch=(8, 8)), LabelPlaces(SPACE), foreground=0)
    slates = StepSlates(
        policy, lambda _, images: policy.logits(images), Indifferent(), SlateProposals(3), 0
    )
    pool: Any = cases(*shape)
    step = PreferenceStep(
        policy, pool, slates, nothing_learned, 0, patches=lambda *of: draw(*of[:3])
    )
    inside = 2 * 5 * min(8, shape[1])
    for epoch in range(2):
        assert step([0, 1], epoch, 0).logs["volume_ratio_bright"] == (inside, inside)


def test_a_size_that_the_network_can_not_halve_is_told_apart_from_other_errors() -> None:
    class Halving(nn.Module):
        def __init__(self, broken: bool) -> None:
            super().__init__()
            self.head, self.broken = nn.Conv2d(1, 2, 1), broken

        def forward(self, images: Tensor) -> Tensor:
            if self.broken or images.shape[-1] % 4:
                raise RuntimeError("sizes do not match")
            logits: Tensor = self.head(images)
            return logits

    pool: Any = cases(6, 6)
    for broken, kind, message in (
        (
            False,
            "SegprefError",
            r"can't learn from images of 6 x 6 voxels.*sizes do not.*a patch, or",
        ),
        (
            True,
            "SegprefError",
            r"6 x 6 voxels.*\(sizes do not match\).*choose a network that suits",
        ),
    ):
        policy = Segmenter(Halving(broken), SPACE)
        slates = StepSlates(policy, lambda _, images: images, Indifferent(), SlateProposals(3), 0)
        step = PreferenceStep(policy, pool, slates, nothing_learned, 0)
        with pytest.raises(Exception, match=message) as told:
            step([0, 1], 0, 0)
        assert type(told.value).__name__ == kind
