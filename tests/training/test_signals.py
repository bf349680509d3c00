from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segpref.contrib.objectives import RPO, UncertaintyPenalizedDPO
from segpref.objectives import DPO, SupervisedLoss, log_likelihood
from segpref.preferences import TopVsBase, mine
from segpref.training import (
    LogitMargins,
    PreferenceSignal,
    PseudoLabelSignal,
    ScoredBatch,
    read_logs,
)
from segpref.training.signals import _turned
from segpref.types import Candidate, LabelSpace, SegprefError, Slate, WeightedPairs

CLASSES = LabelSpace("multi-class", ("background", "a"))
LABELS = LabelSpace("multi-label", ("a", "b"))


def batch(
    logits: Tensor, reference: Tensor, masks: Any, scores: Any, truth: Any = None
) -> ScoredBatch:
    slates = [
        Slate(np.array(m, np.uint8), tuple(Candidate(f"{k}") for k in range(len(m)))) for m in masks
    ]
    return ScoredBatch(
        # Where fields are many, no test asks for what needs the label space.
        margins=LogitMargins(logits, reference, CLASSES),
        slates=slates,
        scores=[np.array(s, float) for s in scores],
        truth=None if truth is None else lambda i, rows: np.array(truth[i], float)[list(rows)],
        rngs=[np.random.default_rng(n) for n in range(len(masks))],
    )


# One row of four pixels, two classes; candidates [K, field, 1, 4].
ANCHOR, BETTER = [[[0, 0, 0, 0]]], [[[1, 1, 0, 0]]]
LOGITS = torch.tensor([[[[0.0, 1.0, 0.0, 2.0]], [[0.5, 0.0, 0.0, 0.0]]]])


@pytest.mark.parametrize(("reduction", "divisor"), [("region", 2), ("image", 4)])
def test_the_loss_of_one_pair_by_hand(reduction: Any, divisor: int) -> None:
    logits = LOGITS.clone().requires_grad_()
    signal = PreferenceSignal(CLASSES, TopVsBase(), DPO(beta=1.5), reduction)
    result = signal(
        batch(
            logits, torch.zeros_like(LOGITS), [[ANCHOR, BETTER]], [[[0.2], [0.7]]], [[[0.9], [0.1]]]
        )
    )
    # Winner and loser differ in pixels 0 and 1, where class 1 minus class 0 is 0.5 and -1.
    margin = (0.5 - 1.0) / divisor
    assert result.terms == 1
    assert result.loss is not None
    assert float(result.loss.detach()) == pytest.approx(np.log1p(np.exp(-1.5 * margin)))
    (read,) = read_logs([result.logs])
    logs = {name: amount / weight for name, (amount, weight) in read.items()}
    assert logs["margin"] == pytest.approx(margin)
    assert logs["preference_accuracy"] == 0
    assert logs["disagreement"] == 0.5
    assert logs["pair_flip"] == 1
    assert logs["pairs_per_image"] == 1
    result.loss.backward()
    assert logits.grad is not None
    assert (logits.grad[..., 2:] == 0).all()
    assert (logits.grad[..., :2] != 0).all()


def test_without_pairs_the_loss_is_a_zero_that_touches_the_logits() -> None:
    logits = LOGITS.clone().requires_grad_()
    tied = batch(logits, LOGITS, [[ANCHOR, BETTER]], [[[0.5], [0.5]]])
    for signal in (PreferenceSignal(CLASSES), PseudoLabelSignal(CLASSES)):
        result = signal(tied)
        assert result.terms == 0
        assert result.loss is not None
        assert float(result.loss.detach()) == 0
        result.loss.backward()
        assert logits.grad is not None
        assert (logits.grad == 0).all()
    assert PreferenceSignal(CLASSES)(tied).logs["skipped_tied"] == (1.0, 1.0)


def test_skipped_fields_are_a_share_that_adds_up_over_processes() -> None:
    """One process sees three images of which one is tied, the other one image that is tied."""
    good, tied = [[0.2], [0.7]], [[0.5], [0.5]]
    totals = np.zeros(2)
    for scores in ([good, tied, good], [tied]):
        many = len(scores)
        logits = LOGITS.repeat(many, 1, 1, 1)
        result = PreferenceSignal(CLASSES)(batch(logits, logits, [[ANCHOR, BETTER]] * many, scores))
        totals += result.logs["skipped_tied"]
    assert totals[0] / totals[1] == 0.5
    # With two structures per image, one of which is tied, it is half of what was looked at.
    mask = [[[0, 0, 0, 0]], [[0, 0, 1, 1]]], [[[1, 1, 0, 0]], [[1, 1, 1, 1]]]
    two = batch(LOGITS, LOGITS, [mask], [[[0.2, 0.5], [0.7, 0.5]]])
    assert PreferenceSignal(LABELS)(two).logs["skipped_tied"] == (1.0, 2.0)


def test_likelihood_is_there_for_the_objective_that_asks() -> None:
    logits = LOGITS.clone().requires_grad_()
    scored = batch(logits, torch.zeros_like(LOGITS), [[ANCHOR, BETTER]], [[[0.2], [0.7]]])
    plain = PreferenceSignal(CLASSES, TopVsBase(), DPO(1.5))(scored)
    result = PreferenceSignal(CLASSES, TopVsBase(), RPO(1.5, 0.4), "image")(scored)
    dpo = PreferenceSignal(CLASSES, TopVsBase(), DPO(1.5), "image")(scored)
    assert result.loss is not None
    assert dpo.loss is not None
    assert plain.terms == result.terms == 1
    # The winner holds class 1 in the first two pixels.
    labels = torch.tensor([[[[1, 1, 0, 0]]]], dtype=torch.uint8)
    expected = dpo.loss - 0.4 * log_likelihood(LOGITS, labels, CLASSES).squeeze()
    torch.testing.assert_close(result.loss, expected)
    result.loss.backward()
    assert logits.grad is not None
    assert (logits.grad != 0).all()


def test_uncertainty_of_a_pair_is_that_of_its_score_difference() -> None:
    scored = batch(LOGITS, LOGITS, [[ANCHOR, BETTER]], [[[0.2], [0.7]]])
    unsure = replace(scored, uncertainty=[np.array([[0.3], [0.4]])])
    # Policy and reference are one, so the margin is 0; sqrt(0.3^2 + 0.4^2) = 0.5; 2 * 0.5 = 1.
    signal = PreferenceSignal(CLASSES, TopVsBase(), UncertaintyPenalizedDPO(1.0, 2.0))
    assert float(torch.as_tensor(signal(unsure).loss)) == pytest.approx(np.log1p(np.exp(-1)))
    with pytest.raises(SegprefError, match="reports its uncertainty"):
        signal(scored)


def test_equal_masks_give_no_pair() -> None:
    same = batch(LOGITS, LOGITS, [[ANCHOR, ANCHOR]], [[[0.5], [0.9]]])
    result = PreferenceSignal(CLASSES, TopVsBase())(same)
    assert result.terms == 0
    assert torch.isfinite(torch.as_tensor(result.loss))


def test_pseudo_labels_are_the_best_candidate_of_each_field() -> None:
    # Field a: candidate 1 is best; field b: the judge abstains.
    masks = [[[[0, 0, 0, 0]], [[0, 0, 1, 1]]], [[[1, 1, 0, 0]], [[1, 1, 1, 1]]]]
    scores = [[0.1, np.nan], [0.8, np.nan]]
    logits = LOGITS.clone().requires_grad_()
    result = PseudoLabelSignal(LABELS)(batch(logits, LOGITS, [masks], [scores]))
    target = torch.tensor([[[[1, 1, 0, 0]], [[255] * 4]]], dtype=torch.uint8)
    expected = SupervisedLoss(LABELS)(LOGITS, target)
    assert result.loss is not None
    assert result.terms == 1
    torch.testing.assert_close(result.loss, expected)
    result.loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, 1] == 0).all()
    assert (logits.grad[:, 0] != 0).any()


def test_the_loss_is_a_sum_over_images() -> None:
    one = batch(LOGITS, LOGITS, [[ANCHOR, BETTER]], [[[0.2], [0.7]]])
    two = batch(
        LOGITS.repeat(2, 1, 1, 1), LOGITS.repeat(2, 1, 1, 1),
        [[ANCHOR, BETTER]] * 2, [[[0.2], [0.7]]] * 2,
    )  # fmt: skip
    for signal in (PreferenceSignal(CLASSES), PseudoLabelSignal(CLASSES)):
        single, double = signal(one), signal(two)
        assert double.terms == 2 * single.terms
        torch.testing.assert_close(double.loss, 2 * single.loss)  # type: ignore[operator]


def test_pairs_that_are_turned_round_by_a_coin_teach_nothing_on_average() -> None:
    images = 400
    logits = LOGITS.repeat(images, 1, 1, 1).requires_grad_()
    masks, scores = [[ANCHOR, BETTER]] * images, [[[0.2], [0.7]]] * images
    truth = [[[0.1], [0.9]]] * images
    signals = {
        rate: PreferenceSignal(CLASSES, TopVsBase(), DPO(beta=1.5), flip_rate=rate)
        for rate in (0.0, 0.5, 1.0)
    }
    reference = logits.detach().clone()  # margins of 0, as at the start of every run
    gradients, flips = {}, {}
    for rate, signal in signals.items():
        result = signal(batch(logits, reference, masks, scores, truth))
        assert result.terms == images
        assert result.loss is not None
        (gradient,) = torch.autograd.grad(result.loss, logits)
        gradients[rate], flips[rate] = gradient.mean(0), result.logs["pair_flip"][0] / images
    assert (flips[0.0], flips[1.0]) == (0, 1)
    assert flips[0.5] == pytest.approx(0.5, abs=0.1)  # four standard deviations
    torch.testing.assert_close(gradients[1.0], -gradients[0.0])
    expected = gradients[0.0] * (1 - 2 * flips[0.5])
    torch.testing.assert_close(gradients[0.5], expected, rtol=1e-4, atol=1e-7)
    with pytest.raises(SegprefError, match="flip_rate is from 0 to 1, not 2"):
        PreferenceSignal(CLASSES, flip_rate=2)


def test_groups_of_pairs_are_turned_round_together() -> None:
    class Both:
        def __call__(self, scores: Any, rng: Any) -> WeightedPairs:
            rows = np.array([[0, 1], [0, 2], [1, 2]])
            return WeightedPairs(rows, np.ones(3), np.array([0, 0, 1]))

    scores = [np.array([[0.9], [0.5], [0.1]])] * 40
    mined = mine(Both(), scores, [np.random.default_rng(n) for n in range(40)]).pairs
    turned = _turned(mined, [np.random.default_rng(n) for n in range(40)], 0.5)
    exchanged = turned.winner == mined.loser
    assert (turned.winner + turned.loser == mined.winner + mined.loser).all()
    assert mined.group is not None
    for group in np.unique(mined.group):
        assert len({*exchanged[mined.group == group]}) == 1
    assert 0 < exchanged.mean() < 1
