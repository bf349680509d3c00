"""Losses against closed forms that are written here a second time, in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segpref.contrib.objectives import ConservativeDPO, Hinge
from segpref.objectives import DPO, IPO, RobustDPO, update_strength
from segpref.types import Margins, Objective, SegprefError

BETAS = st.floats(0.05, 5)
DELTAS = st.lists(st.floats(-20, 20), min_size=1, max_size=6)


def make_margins(deltas) -> Margins:
    reference = torch.linspace(-2, 2, len(deltas), dtype=torch.float64)
    policy = torch.tensor(deltas, dtype=torch.float64) + reference
    return Margins(policy=policy, reference=reference, gap=torch.ones(len(deltas)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def log_loss(x):
    return np.log1p(np.exp(-x))


CLOSED = {
    "dpo": (
        lambda beta: DPO(beta),
        lambda d, b: log_loss(b * d),
        lambda d, b: -b * sigmoid(-b * d),
    ),
    "ipo": (
        lambda beta: IPO(beta),
        lambda d, b: (d - 0.5 / b) ** 2,
        lambda d, b: 2 * d - 1 / b,
    ),
    "robust": (
        lambda beta: RobustDPO(beta, 0.2),
        lambda d, b: (0.8 * log_loss(b * d) - 0.2 * log_loss(-b * d)) / 0.6,
        lambda d, b: -b * (0.8 * sigmoid(-b * d) + 0.2 * sigmoid(b * d)) / 0.6,
    ),
    "conservative": (
        lambda beta: ConservativeDPO(beta, 0.2),
        lambda d, b: 0.8 * log_loss(b * d) + 0.2 * log_loss(-b * d),
        lambda d, b: b * (sigmoid(b * d) - 0.8),
    ),
    "hinge": (
        lambda beta: Hinge(beta),
        lambda d, b: np.maximum(0, 1 - b * d),
        lambda d, b: np.where(b * d < 1, -b, 0.0),
    ),
}


@pytest.mark.parametrize("name", CLOSED)
@given(DELTAS, BETAS)
def test_loss_slope_and_strength(name, deltas, beta):
    make, value, slope = CLOSED[name]
    objective, margins, d = make(beta), make_margins(deltas), None
    policy = margins.policy.clone().requires_grad_()
    loss = objective(Margins(policy, margins.reference, margins.gap))
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    d = margins.difference.numpy()
    np.testing.assert_allclose(loss.detach().numpy(), value(d, beta), rtol=1e-9, atol=1e-9)
    away = np.abs(beta * d - 1) > 1e-9
    np.testing.assert_allclose(gradient.numpy()[away], slope(d, beta)[away], rtol=1e-7, atol=1e-9)
    strength = update_strength(margins, objective)
    np.testing.assert_allclose(strength.numpy(), np.abs(gradient.numpy()))
    assert not strength.requires_grad


def test_worked_example():
    """At Delta = 0 DPO's loss is log 2 and its pull beta / 2 (Eq. 5 and 13)."""
    margins = make_margins([0.0])
    assert DPO(1.5)(margins).item() == pytest.approx(np.log(2))
    assert update_strength(margins, DPO(1.5)).item() == pytest.approx(0.75)
    assert IPO(0.25)(margins).item() == pytest.approx(4.0)
    assert IPO(0.25)(make_margins([2.0])).item() == 0
    assert Hinge(2.0)(make_margins([0.5])).item() == 0


@given(DELTAS, BETAS, st.floats(0, 0.45))
def test_robust_dpo_is_unbiased_under_flips(deltas, beta, flip_rate):
    ahead, behind = make_margins(deltas), make_margins([-d for d in deltas])
    objective = RobustDPO(beta, flip_rate)
    mean = (1 - flip_rate) * objective(ahead) + flip_rate * objective(behind)
    torch.testing.assert_close(mean, DPO(beta)(ahead), rtol=1e-8, atol=1e-8)


@given(BETAS, st.floats(0.01, 0.45))
def test_conservative_dpo_rests_where_the_preference_is_as_likely_as_said(beta, smoothing):
    rest = np.log((1 - smoothing) / smoothing) / beta
    strength = update_strength(make_margins([rest]), ConservativeDPO(beta, smoothing))
    assert strength.item() == pytest.approx(0, abs=1e-9)


def test_without_noise_the_robust_losses_are_dpo():
    margins = make_margins([-3.0, 0.0, 2.0])
    expected = DPO(0.7)(margins)
    torch.testing.assert_close(RobustDPO(0.7, 0.0)(margins), expected)
    torch.testing.assert_close(ConservativeDPO(0.7, 0.0)(margins), expected)


@pytest.mark.parametrize("name", CLOSED)
def test_extreme_margins_stay_finite(name):
    objective = CLOSED[name][0](1.5)
    margins = Margins(torch.tensor([-1e4, 1e4]), torch.zeros(2), torch.ones(2))
    assert torch.isfinite(objective(margins)).all()
    assert torch.isfinite(update_strength(margins, objective)).all()
    assert isinstance(objective, Objective)


def test_update_strength_works_where_gradients_are_off():
    with torch.no_grad():
        assert update_strength(make_margins([0.0]), DPO(2.0)).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: DPO(0.0), "beta"),
        (lambda: IPO(-1.0), "beta"),
        (lambda: Hinge(float("nan")), "beta"),
        (lambda: RobustDPO(1.0, 0.5), "flip_rate"),
        (lambda: ConservativeDPO(1.0, -0.1), "label_smoothing"),
    ],
)
def test_settings_out_of_range_are_refused(make, name):
    with pytest.raises(SegprefError, match=name):
        make()
