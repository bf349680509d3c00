"""Symmetric losses and Dr. DPO: worked numbers, symmetry, what flips do to them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_margins import of

from segpref.contrib.objectives import DrDPO, RampLoss, SigmoidLoss
from segpref.objectives import DPO, update_strength

SYMMETRIC = pytest.mark.parametrize("make", [SigmoidLoss, RampLoss])
NUMBERS = st.lists(st.floats(-20, 20), min_size=1, max_size=6)


def test_symmetric_losses_by_hand():
    # sigmoid(-1) = 1 / (1 + e) = 0.2689414, as 2 * 0.5 = 1.
    assert SigmoidLoss(2.0)(of([0.5])).item() == pytest.approx(0.2689414)
    # (1 - z) / 2 within -1 to 1, 1 and 0 beyond.
    losses = RampLoss(2.0)(of([-3.0, -0.25, 0.0, 0.25, 3.0]))
    assert losses.tolist() == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])


@SYMMETRIC
@given(deltas=NUMBERS, beta=st.floats(0.05, 5), rate=st.floats(0, 0.45))
def test_flips_change_a_symmetric_loss_by_a_factor_and_a_constant(make, deltas, beta, rate):
    ahead, behind = make(beta)(of(deltas)), make(beta)(of([-d for d in deltas]))
    torch.testing.assert_close(ahead + behind, torch.ones_like(ahead))
    flipped = (1 - rate) * ahead + rate * behind
    torch.testing.assert_close(flipped, (1 - 2 * rate) * ahead + rate)


@SYMMETRIC
def test_a_pair_held_for_wrong_is_given_up(make):
    far, near = update_strength(of([-30.0, -0.1]), make(1.0))
    assert far < 1e-9 < near


def test_dr_dpo_by_hand():
    # exp(-L) = sigmoid(Delta) = 3/4 and 1/2, of mean 5/8: -log(5/8) for both.
    losses = DrDPO(1.0, 1.0)(of([math.log(3), 0.0]))
    assert losses.tolist() == pytest.approx([-math.log(0.625)] * 2)


@given(NUMBERS, st.floats(0.05, 5))
def test_dr_dpo_with_much_trust_is_the_mean_of_dpo(deltas, beta):
    mean = DPO(beta)(of(deltas)).mean()
    torch.testing.assert_close(DrDPO(beta, 1e6)(of(deltas)).mean(), mean, rtol=1e-3, atol=1e-6)


@given(NUMBERS, st.floats(0.1, 3))
def test_dr_dpo_weighs_pairs_by_how_well_they_agree(deltas, trust):
    """The pull on pair i is P w_i times DPO's, with w the softmax of -L / beta'."""
    margins = of(deltas)
    weight = torch.softmax(-DPO(0.7)(margins) / trust, 0)
    expected = len(deltas) * weight * update_strength(margins, DPO(0.7))
    torch.testing.assert_close(update_strength(margins, DrDPO(0.7, trust)), expected)


def test_dr_dpo_of_one_pair_is_dpo():
    torch.testing.assert_close(DrDPO(0.7, 0.3)(of([-0.4])), DPO(0.7)(of([-0.4])))
