"""KTO, soft targets and flip rates of single pairs: by hand, and on masks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_margins import of
from torch.nn.functional import logsigmoid

from segpref.objectives import (
    DPO,
    IPO,
    KTO,
    CalibratedDPO,
    RobustDPO,
    disagreement,
    log_likelihood,
    margins,
    whole_log_likelihood,
)
from segpref.training import LogitMargins
from segpref.types import Candidate, LabelSpace, Margins, Pairs, Slate

HEART = LabelSpace("multi-class", ("background", "RV", "LV"))
CHEST = LabelSpace("multi-label", ("lungs", "heart"))


def with_targets(delta: list[float], target: list[float]) -> Margins:
    return replace(of(delta), target=torch.tensor(target, dtype=torch.float64))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_what_is_better_than_the_reference_point_is_a_gain() -> None:
    # Mean 0.5: the reference point.
    found = KTO(2.0, 1.5, 0.5)(with_targets([1.0, 0.5, 0.0], [1, 0, 0]))
    expected = [1.5 * sigmoid(-1.0), 0.5 * 0.5, 0.5 * sigmoid(-1.0)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    # Below 0 it is 0.
    found = KTO()(with_targets([-1.0, -2.0], [1, 0]))
    np.testing.assert_allclose(found.numpy(), [sigmoid(1.0), sigmoid(-2.0)], rtol=1e-12)


def test_the_reference_point_has_no_gradient() -> None:
    delta = torch.tensor([1.0, 3.0], dtype=torch.float64, requires_grad=True)
    plain = with_targets([1.0, 3.0], [1, 0])
    KTO(0.7)(replace(plain, policy=delta)).sum().backward()
    slope = [0.7 * sigmoid(x) * (1 - sigmoid(x)) for x in (0.7, 0.7)]
    assert delta.grad is not None
    np.testing.assert_allclose(delta.grad.numpy(), [-slope[0], slope[1]], rtol=1e-12)


@pytest.mark.parametrize("objective", [DPO(0.7), IPO(0.7), RobustDPO(0.7, 0.2)])
def test_a_tie_is_the_mean_of_both_orders_and_least_where_nothing_is_preferred(objective) -> None:
    deltas = [-1.5, 0.0, 0.4]
    tie = objective(with_targets(deltas, [0.5] * 3))
    both = (objective(of(deltas)) + objective(of([-d for d in deltas]))) / 2
    torch.testing.assert_close(tie, both, rtol=1e-12, atol=0)
    at = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    objective(replace(with_targets([0.0], [0.5]), policy=at)).sum().backward()
    assert at.grad is not None
    assert abs(float(at.grad)) < 1e-12
    sure = objective(with_targets(deltas, [1.0] * 3))
    torch.testing.assert_close(sure, objective(of(deltas)), rtol=1e-12, atol=0)


def test_pairs_bring_their_own_flip_rates() -> None:
    rates = torch.tensor([0.0, 0.3, 0.5], dtype=torch.float64)
    told = replace(of([0.8] * 3), flip_rate=rates)
    h = torch.tensor(0.7 * 0.8, dtype=torch.float64)
    good, bad = -logsigmoid(h), -logsigmoid(-h)
    calibrated = CalibratedDPO(0.7)(told)
    torch.testing.assert_close(calibrated, (1 - rates) * good + rates * bad, rtol=1e-12, atol=0)
    robust = RobustDPO(0.7, 0.1)(told)
    for value, rate in zip(robust, (0.0, 0.3, 0.4), strict=True):
        torch.testing.assert_close(value, ((1 - rate) * good - rate * bad) / (1 - 2 * rate))


def slate(*masks: list[list[int]]) -> Slate:
    made = np.array(masks, np.uint8)[:, :, None, :]
    return Slate(made, tuple(Candidate(str(n)) for n in range(len(made))))


def one(structure: int | None, winner: int = 1, loser: int = 0) -> Pairs:
    zeros = np.zeros(1, np.int64)
    return Pairs(
        zeros, zeros, np.array([winner]), np.array([loser]), np.ones(1), target=np.ones(1),
        structure=None if structure is None else np.array([structure]),
    )  # fmt: skip


def test_a_pair_about_one_structure_leaves_the_others_out() -> None:
    # RV differs at pixels 0 and 3 (there it is LV in the other), LV at 1 and 3.
    slates = [slate([[0, 0, 1, 1, 0]], [[1, 2, 1, 2, 0]])]
    z = torch.arange(15, dtype=torch.float64).reshape(1, 3, 1, 5) ** 1.5
    reference = torch.zeros_like(z)
    ratio = [float(z[0, b, 0, i] - z[0, a, 0, i]) for i, (a, b) in enumerate(
        zip([0, 0, 1, 1, 0], [1, 2, 1, 2, 0], strict=True))]  # fmt: skip
    for structure, pixels, omega in ((None, [0, 1, 3], 5), (0, [0, 3], 4), (1, [1, 3], 4)):
        region = disagreement(slates, one(structure), HEART)
        total = sum(ratio[i] for i in pixels)
        assert (int(region.region), int(region.omega)) == (len(pixels), omega)
        for reduction, size in (("image", omega), ("region", len(pixels))):
            found = margins(z, reference, region, reduction)
            assert float(found.policy) == pytest.approx(total / size)
    source = LogitMargins(z, reference, HEART)
    found = source(slates, disagreement(slates, one(0), HEART), "image", likelihood=True)
    logs = z.log_softmax(1)[0, :, 0]
    told = [0, 2, 3, 4]
    winner = sum(float(logs[[1, 2, 1, 2, 0][i], i]) for i in told) / 4
    loser = sum(float(logs[[0, 0, 1, 1, 0][i], i]) for i in told) / 4
    assert float(found.winner) == pytest.approx(winner)
    assert float(found.winner - found.policy) == pytest.approx(loser)


def test_the_anchor_is_judged_as_a_whole() -> None:
    rng = torch.Generator().manual_seed(3)
    z, old = torch.randn(2, 1, 3, 1, 4, generator=rng, dtype=torch.float64)
    z.requires_grad_()
    slates = [slate([[0, 1, 2, 255]], [[0, 1, 1, 255]])]
    pairs = one(None, winner=0)
    assert len(disagreement(slates, pairs, HEART)) == 0
    region = disagreement(slates, pairs, HEART, whole=True)
    assert (region.whole.tolist(), region.omega.tolist()) == ([True], [3])
    masks = torch.from_numpy(slates[0].masks[:1])
    for reduction in ("image", "region", ("power", 0.5)):
        found = LogitMargins(z, old, HEART)(slates, region, reduction)
        assert float(found.policy) == pytest.approx(float(log_likelihood(z, masks, HEART)))
        assert float(found.reference) == pytest.approx(float(log_likelihood(old, masks, HEART)))
    # A step against the loss makes an accepted anchor more likely, and a rejected one less.
    for target in (1.0, 0.0):
        found = LogitMargins(z, old, HEART)(slates, region, "image")
        loss = KTO()(replace(found, target=torch.tensor([target], dtype=torch.float64)))
        (slope,) = torch.autograd.grad(loss.sum(), z)
        moved = log_likelihood(z - 0.01 * slope, masks, HEART) - log_likelihood(z, masks, HEART)
        assert (float(moved) > 0) == (target == 1)


def test_one_structure_of_the_anchor_is_two_classes() -> None:
    z = torch.randn(1, 3, 1, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    slates = [slate([[0, 1, 2, 255]])]
    region = disagreement(slates, one(1, winner=0), HEART, whole=True)
    likely = z.softmax(1)[0, 2, 0]
    expected = ((1 - likely[0]).log() + (1 - likely[1]).log() + likely[2].log()) / 3
    found = whole_log_likelihood(z, slates, region, HEART)
    torch.testing.assert_close(found, expected[None])


def test_a_structure_that_may_overlap_is_its_own_field() -> None:
    z = torch.randn(1, 2, 1, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    slates = [slate([[0, 1, 1], [1, 0, 0]])]
    pairs = replace(one(None, winner=0), field=np.array([1]))
    region = disagreement(slates, pairs, CHEST, whole=True)
    expected = log_likelihood(z, torch.from_numpy(slates[0].masks), CHEST)[:, 1]
    torch.testing.assert_close(whole_log_likelihood(z, slates, region, CHEST), expected)
