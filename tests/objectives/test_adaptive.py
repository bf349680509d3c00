"""Objectives with batch statistics: worked numbers, limits, constants to the gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_margins import of
from scipy.optimize import minimize

from segpref.contrib.objectives import AlphaDPO, AMaPO, BetaDPO, GammaPO, SimPO, optimal_shares
from segpref.objectives import DPO, update_strength
from segpref.types import SegprefError

DELTAS = [-2.0, -0.3, 0.0, 1.2]


def log_loss(x: float) -> float:
    return math.log1p(math.exp(-x))


def test_beta_dpo_by_hand():
    # Mean 2: beta = 1 (1 + 0.5 * 2) = 2. log(1 + e^-2) = 0.1269280.
    losses = BetaDPO(1.0, 0.5, 0.0)(of([1.0, 3.0]))
    assert losses.tolist() == pytest.approx([0.1269280, log_loss(6.0)])
    # 2 below the threshold of 4, alpha 0.6: 1 - 1.2 is held at a thousandth.
    losses = BetaDPO(1.0, 0.6, 4.0)(of([1.0, 3.0]))
    assert losses.tolist() == pytest.approx([log_loss(0.001), log_loss(0.003)])


def test_beta_dpo_filters_by_hand():
    # Mean 3, distances 3, 2, 1, 6: the pairs at 1 and 2 are kept, their mean is 1.5 and
    # beta = 1 + 2/3 * 1.5 = 2. They count double, so that the mean over four is theirs.
    losses = BetaDPO(1.0, 2 / 3, 0.0, keep=0.5)(of([0.0, 1.0, 2.0, 9.0]))
    assert losses.tolist() == pytest.approx([0, 2 * log_loss(2), 2 * log_loss(4), 0])
    assert BetaDPO(threshold=0.0, keep=0.1)(of([5.0])).item() > 0


def test_alpha_dpo_by_hand():
    # Delta is 0 and 2, so z = -+1 / sqrt 2; policy parts are both 1.
    # Targets 0.5 -+ 0.5 * 0.7071068 = 0.1464466 and 0.8535534.
    margins = of([0.0, 2.0], reference=[1.0, -1.0])
    losses = AlphaDPO(1.0, 0.5, 0.5)(margins).tolist()
    assert losses == pytest.approx([log_loss(0.8535534), log_loss(0.1464466)])


def test_amapo_by_hand():
    # Mean 1, deviation sqrt 2: the first lags by 0.7071068, its target is e^(1 * 0.7071068).
    losses = AMaPO(1.0)(of([0.0, 2.0])).tolist()
    assert losses == pytest.approx([log_loss(-math.exp(0.7071068)), log_loss(2.0)])


@settings(max_examples=20)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(0.05, 1), st.floats(0.5, 20))
def test_gamma_po_finds_the_targets(deltas, gamma, tau):
    """Against a general solver of the problem in the docstring, over softmax weights."""
    count, rewards = len(deltas), 0.7 * np.array(deltas)

    def cost(weights):
        share = np.exp(weights - np.logaddexp.reduce(weights))
        violation = np.logaddexp(0, gamma * count * share - rewards).mean()
        return violation + tau * (share * np.log(count * share)).sum()

    solved = minimize(cost, np.zeros(count), tol=1e-12).x
    targets = gamma * count * np.exp(solved - np.logaddexp.reduce(solved))
    expected = np.logaddexp(0, -(rewards - (targets - gamma)))
    found = GammaPO(0.7, gamma, tau)(of(deltas)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [2, 32, 500, 5000])
@pytest.mark.parametrize("gamma", [0.5, 5.0, 100.0])
@pytest.mark.parametrize("tau", [0.01, 1.0, 10.0])
def test_gamma_po_reaches_its_optimum(count, gamma, tau):
    """The slope of the problem is the same for all shares, whatever the number of pairs."""
    rewards = np.random.default_rng(count).normal(0, 3, count)
    share = optimal_shares(rewards, gamma, tau)
    assert share.sum() == pytest.approx(1)
    told = share > 1e-300
    slope = gamma / (1 + np.exp(rewards - gamma * count * share)) + tau * np.log(count * share)
    np.testing.assert_allclose(slope[told], slope[told].mean(), atol=1e-6 * (gamma + tau))
    if count == 500:
        targets = gamma * (torch.from_numpy(count * share) - 1)
        found = GammaPO(1.0, gamma, tau)(of(rewards.tolist()))
        expected = -torch.nn.functional.logsigmoid(torch.from_numpy(rewards) - targets)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_beta_dpo_has_no_default_threshold():
    with pytest.raises(SegprefError, match=r"needs a threshold.*mean margin of a run with DPO"):
        BetaDPO()
    with pytest.raises(SegprefError, match="finite"):
        BetaDPO(threshold=math.nan)


def test_gamma_po_asks_more_of_clear_pairs():
    doubtful, clear = GammaPO(0.7, 0.5, 1.0)(of([-2.0, 2.0])) - DPO(0.7)(of([-2.0, 2.0]))
    assert doubtful < 0 < clear


def test_limits():
    margins = of(DELTAS, reference=[0.3, -0.2, 0.0, 0.1])
    for still in (BetaDPO(0.7, 0.0, 0.0), GammaPO(0.7, 0.0), GammaPO(0.7, 0.5, 1e9)):
        torch.testing.assert_close(still(margins), DPO(0.7)(margins))
    torch.testing.assert_close(AlphaDPO(2.0, 0.4, 0.0)(margins), SimPO(2.0, 0.4)(margins))


def test_one_pair_alone():
    margins = of([0.8], reference=0.3)
    torch.testing.assert_close(BetaDPO(1.0, 0.5, 0.0)(margins), DPO(1.0 + 0.5 * 0.8)(margins))
    torch.testing.assert_close(AlphaDPO(2.0, 0.4, 0.3)(margins), SimPO(2.0, 0.4)(margins))
    torch.testing.assert_close(GammaPO(0.7, 0.5, 0.1)(margins), DPO(0.7)(margins))
    torch.testing.assert_close(AMaPO(0.7)(margins), SimPO(0.7, 0.0)(margins))


@pytest.mark.parametrize(
    ("objective", "beta"),
    [(BetaDPO(0.7, 0.6, 0.0), None), (AlphaDPO(2.0), 2.0), (GammaPO(0.7), 0.7), (AMaPO(0.7), 0.7)],
)
def test_statistics_are_constants_to_the_gradient(objective, beta):
    """Every loss is -log sigmoid(beta m - c), so its slope in m is beta (1 - exp(-loss))."""
    margins = of(DELTAS)
    if beta is None:
        beta = 0.7 * (1 + 0.6 * np.mean(DELTAS))
    expected = beta * (1 - torch.exp(-objective(margins)))
    torch.testing.assert_close(update_strength(margins, objective), expected)
