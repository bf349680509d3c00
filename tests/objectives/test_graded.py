"""Objectives that read the judge's scores: worked numbers and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_margins import of

from segpref.contrib.objectives import (
    DPOPRO,
    ODPO,
    ConservativeDPO,
    SoftDPO,
    UncertaintyPenalizedDPO,
)
from segpref.objectives import DPO, update_strength
from segpref.types import SegprefError

AT_ONE = 0.3132617  # -log sigmoid(1) = log(1 + e^-1)
DELTAS = [-2.0, -0.3, 0.0, 1.2]


def test_odpo_by_hand():
    # 1.4 - 2 * 0.2 = 1
    assert ODPO(1.0, 2.0)(of([1.4], gap=0.2)).item() == pytest.approx(AT_ONE)
    # 0.5 - 0.5 * log(e^-1) = 1
    margins = of([0.5], gap=math.exp(-1))
    assert ODPO(1.0, 0.5, "log")(margins).item() == pytest.approx(AT_ONE)
    torch.testing.assert_close(ODPO(0.7, 0.0)(of(DELTAS)), DPO(0.7)(of(DELTAS)))


def test_soft_dpo_by_hand():
    # gap / temperature = log 3, so p = 3/4 and 2 p - 1 = 1/2; 2 * 1/2 * 1 = 1.
    margins = of([1.0], gap=0.2 * math.log(3))
    assert SoftDPO(2.0, 0.2)(margins).item() == pytest.approx(AT_ONE)


def test_soft_dpo_of_a_sure_judge_is_dpo_and_of_a_tie_is_still():
    torch.testing.assert_close(SoftDPO(0.7, 1e-3)(of(DELTAS, gap=0.5)), DPO(0.7)(of(DELTAS)))
    assert update_strength(of(DELTAS, gap=1e-9), SoftDPO(0.7)).max() < 1e-8


def test_soft_dpo_is_the_log_ratio_of_geometric_averages():
    """Furuta et al.: both likelihoods are replaced by pi(y+)^p pi(y-)^(1-p) and the reverse."""
    winner, loser, old_winner, old_loser, p = 0.6, 0.2, 0.3, 0.4, 0.9
    better = winner**p * loser ** (1 - p) / (old_winner**p * old_loser ** (1 - p))
    worse = loser**p * winner ** (1 - p) / (old_loser**p * old_winner ** (1 - p))
    expected = math.log1p((worse / better) ** 1.5)
    delta = math.log(winner / loser) - math.log(old_winner / old_loser)
    margins = of([delta], gap=0.1 * math.log(p / (1 - p)))
    assert SoftDPO(1.5, 0.1)(margins).item() == pytest.approx(expected)


def test_uncertainty_by_hand():
    # 0.6 + 2 * 0.2 = 1
    margins = of([0.6], uncertainty=0.2)
    assert UncertaintyPenalizedDPO(1.0, 2.0)(margins).item() == pytest.approx(AT_ONE)
    # exp(-log 2) = 1/2
    margins = of([1.0], uncertainty=math.log(2))
    weighted = UncertaintyPenalizedDPO(1.0, 1.0, "weight")(margins)
    assert weighted.item() == pytest.approx(AT_ONE / 2)
    # gap / temperature = log 3: u = 2 * 1/4, and 0 + 2 * 1/2 = 1. The judge's own is not asked.
    margins = of([0.0], gap=0.1 * math.log(3), uncertainty=7.0)
    from_gap = UncertaintyPenalizedDPO(1.0, 2.0, temperature=0.1)(margins)
    assert from_gap.item() == pytest.approx(AT_ONE)


@pytest.mark.parametrize("scheme", ["margin", "weight"])
@given(delta=st.floats(-5, 5), uncertainty=st.floats(0.01, 2), penalty=st.floats(0.1, 3))
def test_doubt_only_weakens_the_pull(scheme, delta, uncertainty, penalty):
    sure = update_strength(of([delta]), DPO(0.7))
    objective = UncertaintyPenalizedDPO(0.7, penalty, scheme)
    assert update_strength(of([delta], uncertainty=uncertainty), objective) < sure
    for harmless in (
        UncertaintyPenalizedDPO(0.7, 0.0, scheme)(of([delta], uncertainty=uncertainty)),
        objective(of([delta], uncertainty=0.0)),
    ):
        torch.testing.assert_close(harmless, DPO(0.7)(of([delta])))


def test_without_uncertainty_the_mend_is_named():
    with pytest.raises(SegprefError, match=r"reports its uncertainty.*temperature"):
        UncertaintyPenalizedDPO()(of([0.1]))


def test_dpo_pro_by_hand():
    # gap / temperature = log 4: q = 0.8, and sqrt(0.25 * 0.8 * 0.2) = 0.2, so p is 0.6 or 1.
    margins = of([1.0, -1.0], gap=0.1 * math.log(4))
    losses = DPOPRO(1.0, 0.25, 0.1)(margins).tolist()
    # L(1) = 0.3132617 and L(-1) = 1.3132617: 0.6 * 0.3132617 + 0.4 * 1.3132617.
    assert losses == pytest.approx([0.7132617, 1.3132617])
    # The same by the regularised form: cross-entropy with q plus 0.2 * |1|.
    assert losses[0] == pytest.approx(0.8 * 0.3132617 + 0.2 * 1.3132617 + 0.2)


@given(st.floats(-6, 6), st.floats(1e-3, 0.6), st.floats(0, 3))
def test_dpo_pro_is_the_worst_probability_of_its_ball(delta, gap, rho):
    """Against a search over the ball itself."""
    q = 1 / (1 + math.exp(-gap / 0.2))
    p = np.linspace(0, 1, 20001)
    p = np.append(p[(p - q) ** 2 <= rho * q * (1 - q)], q)
    ahead, behind = math.log1p(math.exp(-0.7 * delta)), math.log1p(math.exp(0.7 * delta))
    worst = np.max(p * ahead + (1 - p) * behind)
    found = DPOPRO(0.7, rho, 0.2)(of([delta], gap=gap)).item()
    # The grid misses the end of the ball by up to 5e-5.
    assert found == pytest.approx(worst, abs=6e-5 * (1 + abs(delta)))
    assert found >= worst - 1e-12


def test_dpo_pro_without_a_ball_is_smoothed_dpo():
    # q = 0.8
    margins = of(DELTAS, gap=0.1 * math.log(4))
    torch.testing.assert_close(DPOPRO(0.7, 0.0, 0.1)(margins), ConservativeDPO(0.7, 0.2)(margins))
    # A sure judge leaves DPO.
    torch.testing.assert_close(DPOPRO(0.7, 0.1, 1e-3)(margins), DPO(0.7)(margins))


def test_dpo_pro_at_its_kink():
    """At Delta = 0 the slope is -beta (p - 1/2), with the p of the ball that is nearest to 1/2."""
    # q = 0.8, ball from 0.6: slope 2 * 0.1. With rho = 1 the ball goes from 0.4 and holds 1/2.
    margins = of([0.0], gap=0.1 * math.log(4))
    assert update_strength(margins, DPOPRO(2.0, 0.25, 0.1)).item() == pytest.approx(0.2)
    assert update_strength(margins, DPOPRO(2.0, 1.0, 0.1)).item() == 0
