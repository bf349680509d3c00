"""SimPO, ORPO and RPO: worked numbers, and what they come to in the limit."""

from __future__ import annotations

import math

import pytest
import torch
from made_margins import everything, of

from segpref.contrib.objectives import ORPO, RPO, SimPO
from segpref.objectives import DPO, update_strength
from segpref.types import Margins

PARTS = ("policy", "reference", "gap", "winner")
DELTAS = [-2.0, -0.3, 0.0, 1.2]


def test_simpo_by_hand():
    # 2 * 0.75 - 0.5 = 1; -log sigmoid(1) = log(1 + e^-1) = 0.3132617. The reference has no say.
    for reference in (0.0, 3.0):
        margins = of([0.75 - reference], reference=reference)
        assert SimPO(2.0, 0.5)(margins).item() == pytest.approx(0.3132617)


def test_simpo_without_target_is_dpo_without_reference():
    margins = of(DELTAS)
    torch.testing.assert_close(SimPO(0.7, 0.0)(margins), DPO(0.7)(margins))


def test_orpo_by_hand():
    # Likelihoods 0.8 and 0.5 have the odds 4 and 1. -log 0.8 - log sigmoid(log 4) = -2 log 0.8.
    margins = of([math.log(0.8 / 0.5)], winner=math.log(0.8))
    assert ORPO(1.0)(margins).item() == pytest.approx(-2 * math.log(0.8))
    assert ORPO(0.0)(margins).item() == pytest.approx(-math.log(0.8))


def test_odds_of_masks_that_are_nearly_certain():
    # exp(-1e-12) is 1 in single precision, and its odds are infinite.
    margins = of([5e-8], winner=-1e-12)
    single = Margins(*(getattr(margins, part).float() for part in PARTS))
    assert ORPO(1.0)(single).item() == pytest.approx(math.log(2), rel=1e-3)


def test_rpo_by_hand():
    # log(1 + e^-1) + 0.5 * 0.4
    assert RPO(1.0, 0.5)(of([1.0], winner=-0.4)).item() == pytest.approx(0.3132617 + 0.2)


def test_rpo_without_likelihood_is_dpo():
    margins = everything(DELTAS)
    torch.testing.assert_close(RPO(0.7, 0.0)(margins), DPO(0.7)(margins))
    # The second term raises the winner; it does not pull on the margin.
    torch.testing.assert_close(
        update_strength(margins, RPO(0.7, 5.0)), update_strength(margins, DPO(0.7))
    )
