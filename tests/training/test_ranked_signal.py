"""Rankings of four candidates, and the best candidate alone, through the signal of stage 2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from segpref.objectives import DPO, BestOnly
from segpref.preferences import NestedPairs, TopVsBase, mine
from segpref.training import LogitMargins, PreferenceSignal, ScoredBatch
from segpref.types import Candidate, LabelSpace, Slate

LESION = LabelSpace("multi-label", ("lesion",))
# Four candidates of one row of six pixels, from best to worst.
MASKS = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
SCORES = np.array([[0.9], [0.7], [0.5], [0.1]])


def batch(images: int = 2) -> ScoredBatch:
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, images, 1, 1, 6, generator=generator)
    slate = Slate(MASKS[:, None, None].astype(np.uint8), tuple(Candidate(str(k)) for k in range(4)))
    return ScoredBatch(
        margins=LogitMargins(policy.requires_grad_(), reference, LESION),
        slates=[slate] * images,
        scores=[SCORES] * images,
        truth=None,
        rngs=[np.random.default_rng(n) for n in range(images)],
    )


def reference_of(made: ScoredBatch) -> torch.Tensor:
    assert isinstance(made.margins, LogitMargins)
    return made.margins.reference


def ratio(made: ScoredBatch, image: int, better: int, worse: int) -> torch.Tensor:
    change = torch.from_numpy(MASKS[better] - MASKS[worse])
    difference = (made.logits - reference_of(made))[image, 0, 0]
    return (change * difference).sum() / change.abs().sum()


def test_two_pairs_of_an_image_are_one_margin() -> None:
    made = batch()
    signal = PreferenceSignal(LESION, NestedPairs((2.0, 0.5)), DPO(beta=1.0), "region")
    result = signal(made)
    assert result.terms == 2
    assert result.loss is not None
    expected = -sum(
        logsigmoid(2.0 * ratio(made, image, 0, 3) + 0.5 * ratio(made, image, 1, 2))
        for image in range(2)
    )
    torch.testing.assert_close(result.loss, expected)


def test_groups_of_images_and_miners_stay_apart() -> None:
    rngs = [np.random.default_rng(0)] * 2
    pairs = mine(NestedPairs(), [SCORES, np.hstack([SCORES, SCORES])], rngs).pairs
    assert pairs.group is not None
    assert pairs.weight is not None
    assert pairs.group.tolist() == [0, 0, 1, 1, 2, 2]
    assert pairs.weight.tolist() == [1.0, 0.5] * 3
    single = mine(TopVsBase(), [SCORES[::-1]], rngs[:1]).pairs
    assert single.group is None
    assert single.weight is None
    none = mine(NestedPairs(), [np.zeros((4, 1))], rngs[:1])
    assert len(none.pairs) == 0


def test_the_best_alone_is_held_against_the_reference() -> None:
    made = batch(1)
    signal = PreferenceSignal(LESION, NestedPairs((1.0,)), BestOnly(beta=2.0), "image")
    result = signal(made)
    assert result.loss is not None
    best = torch.from_numpy(MASKS[0]).float()
    gain = binary_cross_entropy_with_logits(reference_of(made)[0, 0, 0], best)
    gain = gain - binary_cross_entropy_with_logits(made.logits[0, 0, 0], best)
    assert float(result.loss.detach()) == pytest.approx(-float(logsigmoid(2.0 * gain.detach())))
