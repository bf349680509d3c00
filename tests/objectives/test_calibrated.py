"""CalibratedDPO: worked numbers, its optimum, and what it is at the ends."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_margins import of

from segpref.contrib.objectives import ConservativeDPO
from segpref.objectives import DPO, CalibratedDPO
from segpref.types import SegprefError

DELTAS = [-2.0, -0.3, 0.0, 1.2]


def test_by_hand():
    # Half way between the gaps 0.1 and 0.3 a quarter is wrong: 3/4 log(1 + e^-1) + 1/4 log(1 + e).
    expected = 0.75 * math.log1p(math.exp(-1)) + 0.25 * math.log1p(math.exp(1))
    loss = CalibratedDPO(2.0, (0.1, 0.3), (0.4, 0.1))(of([0.5], gap=0.2))
    assert loss.item() == pytest.approx(expected)


def test_one_rate_for_all_gaps_is_conservative_dpo_and_none_wrong_is_dpo():
    margins = of(DELTAS, gap=[0.01, 0.2, 0.5, 0.9])
    torch.testing.assert_close(
        CalibratedDPO(0.7, (0.3,), (0.2,))(margins), ConservativeDPO(0.7, 0.2)(margins)
    )
    torch.testing.assert_close(CalibratedDPO(0.7, (0.3,), (0.0,))(margins), DPO(0.7)(margins))


@given(st.floats(0.5, 4), st.lists(st.floats(0.01, 0.99), min_size=2, max_size=5), st.floats(0, 1))
def test_it_is_least_where_the_policy_is_as_sure_as_the_judge_was_right(beta, rates, gap):
    gaps = tuple(np.linspace(0.1, 0.6, len(rates)))
    e = float(np.interp(gap, gaps, np.minimum(rates, 0.5)))
    delta = torch.tensor([math.log((1 - e) / e) / beta], dtype=torch.float64, requires_grad=True)
    margins = replace(of([0.0], gap=gap), policy=delta)
    (slope,) = torch.autograd.grad(CalibratedDPO(beta, gaps, tuple(rates))(margins).sum(), delta)
    assert abs(slope.item()) < 1e-9


def test_a_judge_that_is_mostly_wrong_is_not_turned_round():
    delta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    margins = replace(of([0.0]), policy=delta)
    (slope,) = torch.autograd.grad(CalibratedDPO(1.5, (0.2,), (0.8,))(margins).sum(), delta)
    assert slope.item() == 0


def test_settings_that_make_no_curve_are_refused():
    with pytest.raises(SegprefError, match="has no flip rates"):
        CalibratedDPO()(of([0.1]))
    with pytest.raises(SegprefError, match="as many flip_rates as gaps"):
        CalibratedDPO(1.0, (0.1, 0.2), (0.3,))
    with pytest.raises(SegprefError, match="gaps that rise"):
        CalibratedDPO(1.0, (0.2, 0.1), (0.3, 0.4))
    with pytest.raises(SegprefError, match="from 0 to 1"):
        CalibratedDPO(1.0, (0.2,), (1.3,))
