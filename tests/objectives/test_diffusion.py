from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from segpref.contrib.objectives import RPO
from segpref.objectives import (
    DPO,
    IPO,
    Reduction,
    denoising_log_ratio,
    diffusion_margins,
    margin_scale,
    reduce_map,
    safe_scale,
)
from segpref.types import Pairs, SegprefError

PAIRS, SIDE = 5, 6


class Toy(nn.Module):
    """A denoiser of 20 weights that knows the time."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.near = nn.Conv2d(1, 1, 3, padding=1, dtype=torch.float64)
        self.far = nn.Conv2d(1, 1, 3, padding=1, dtype=torch.float64)

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        return self.near(noisy) + time.reshape(-1, 1, 1, 1) * torch.tanh(self.far(noisy))


def mined(count: int) -> Pairs:
    zeros = np.zeros(count, np.int64)
    return Pairs(zeros, zeros, zeros, zeros + 1, np.full(count, 0.3))


def made(seed: int = 0) -> dict[str, Any]:
    """Two networks, pairs of masks, and one draw of noise and time."""
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(2, PAIRS, 1, SIDE, SIDE, generator=generator) < 0.4).double() * 2 - 1
    time = torch.rand(PAIRS, generator=generator, dtype=torch.float64)
    noise = torch.randn(PAIRS, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return {
        "policy": Toy(seed), "reference": Toy(seed + 100), "masks": masks, "time": time,
        "noise": noise, "pairs": mined(PAIRS),
    }  # fmt: skip


def noised(masks: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    share = time.reshape(-1, 1, 1, 1)
    return (1 - share).sqrt() * masks + share.sqrt() * noise


def residuals(network: nn.Module, case: dict[str, Any]) -> Tensor:
    found = [
        network(noised(m, case["noise"], case["time"]), case["time"]) - case["noise"]
        for m in case["masks"]
    ]
    return torch.stack(found)[:, :, 0]


def margins(case: dict[str, Any], reduction: Reduction = "image", **options: Any) -> Any:
    region = (case["masks"][0] != case["masks"][1])[:, 0]
    with torch.no_grad():
        before = residuals(case["reference"], case)
    after = residuals(case["policy"], case)
    return diffusion_margins(after, before, region, case["pairs"], reduction, **options)


def gradient(network: nn.Module, loss: Tensor) -> Tensor:
    return torch.cat([g.ravel() for g in torch.autograd.grad(loss, list(network.parameters()))])


@pytest.mark.parametrize("beta", [0.1, 3.0])
def test_the_loss_and_its_gradient_are_those_of_equations_6_and_7(beta: float) -> None:
    case = made()
    loss = DPO(beta)(margins(case, convention="sum"))
    policy, reference, time, noise = (case[n] for n in ("policy", "reference", "time", "noise"))

    total = torch.zeros((), dtype=torch.float64)
    for pair in range(PAIRS):
        one = slice(pair, pair + 1)
        part = []
        for masks in case["masks"]:
            noisy = noised(masks[one], noise[one], time[one])
            ours = torch.linalg.vector_norm(noise[one] - policy(noisy, time[one])) ** 2
            theirs = torch.linalg.vector_norm(noise[one] - reference(noisy, time[one])) ** 2
            part.append(ours - theirs.detach())
        delta = part[0] - part[1]
        expected = -torch.log(torch.sigmoid(-beta * delta))
        assert loss[pair].item() == pytest.approx(expected.item())
        total = total + expected
    torch.testing.assert_close(gradient(policy, loss.sum()), gradient(policy, total))


def test_gradient_by_finite_differences() -> None:
    case = made(1)
    weight = case["policy"].near.weight
    found = gradient(case["policy"], DPO(2.0)(margins(case, "region")).sum())[:9]
    for place in range(9):
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight.view(-1)[place] += step
                values.append(DPO(2.0)(margins(case, "region")).sum().item())
                weight.view(-1)[place] -= step
        assert found[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("reduction", ["image", "region", ("power", 0.5)])
def test_equal_masks_have_no_margin(reduction: Reduction) -> None:
    case = made()
    case["masks"] = case["masks"][:1].repeat(2, 1, 1, 1, 1)
    found = margins(case, reduction)
    assert (found.policy == 0).all()
    assert (found.reference == 0).all()
    assert gradient(case["policy"], DPO()(found).sum()).abs().max() == 0


def test_equal_models_have_no_difference() -> None:
    case = made()
    case["reference"] = case["policy"]
    for reduction in ("image", "region"):
        assert (margins(case, reduction).difference == 0).all()  # type: ignore[arg-type]
        assert (margins(case, reduction, safeguard=0.5).difference == 0).all()  # type: ignore[arg-type]


def test_swapping_winner_and_loser_turns_the_sign() -> None:
    case = made()
    there = margins(case, ("power", 0.3))
    case["masks"] = case["masks"].flip(0)
    back = margins(case, ("power", 0.3))
    torch.testing.assert_close(there.policy, -back.policy)
    torch.testing.assert_close(there.reference, -back.reference)


def test_reductions_by_hand() -> None:
    winner = torch.tensor([[[1.0, 2.0], [0.0, 1.0]]])
    loser = torch.tensor([[[2.0, 2.0], [3.0, 1.0]]])
    d = denoising_log_ratio(winner, loser)
    assert d.tolist() == [[[3, 0], [9, 0]]]
    # The masks differ at the first pixel alone.
    region = torch.tensor([[[True, False], [False, False]]])
    assert reduce_map(d, region, "image").item() == 12 / 4
    assert reduce_map(d, region, "region").item() == 3
    assert reduce_map(d, region, ("power", 0.5)).item() == pytest.approx(3 / math.sqrt(4))
    assert reduce_map(d, region, ("power", 1.0)).item() == 3
    # d is not 0 outside of R, so that the power 0 is not the reduction "image".
    assert reduce_map(d, region, ("power", 0.0)).item() == 3 / 4
    known = torch.tensor([[[True, True], [False, True]]])
    assert reduce_map(d, region, "image", known).item() == 1
    assert reduce_map(d, torch.zeros_like(region), "region").item() == 0


def test_conventions_of_beta() -> None:
    omega = torch.tensor([36.0, 4.0])
    for name, factors in (
        ("mean", [1, 1]), ("half-mean", [0.5, 0.5]), ("sum", [36, 4]), ("half-sum", [18, 2]),
    ):  # fmt: skip
        assert margin_scale(name, omega).tolist() == factors  # type: ignore[arg-type]
    with pytest.raises(SegprefError, match="beta_convention"):
        margin_scale("median", omega)  # type: ignore[arg-type]
    # beta carries over: 5000 times half the mean is what 5000 / 72 times the sum is.
    case = made()
    half = DPO(5000.0)(margins(case, convention="half-mean"))
    whole = DPO(5000.0 / (2 * SIDE**2))(margins(case, convention="sum"))
    torch.testing.assert_close(half, whole)


def test_the_winners_error_stands_for_its_likelihood() -> None:
    case = made()
    found = margins(case, convention="mean", likelihood=True)
    winner = residuals(case["policy"], case)[0]
    torch.testing.assert_close(found.winner, -(winner**2).mean(dim=(1, 2)))
    assert RPO(1.0, 1.0)(found).isfinite().all()
    assert margins(case).winner is None


def test_any_objective_takes_them() -> None:
    found = margins(made(), "region")
    torch.testing.assert_close(IPO(2.0)(found), (found.difference - 0.25) ** 2)


residual = st.lists(st.floats(-3, 3), min_size=4, max_size=4)


@given(residual, residual, st.floats(0, 1))
def test_the_safeguard_keeps_the_winners_progress(
    winner: list[float], loser: list[float], mu: float
) -> None:
    w, x = (torch.tensor([values], dtype=torch.float64) for values in (winner, loser))
    scale = safe_scale(w, x, torch.ones(1, 4, dtype=torch.bool), mu)[0].item()
    power, along = (w @ w.T).item(), (w @ x.T).item()
    assert 0 <= scale <= 1
    # To first order the winner's error changes by -|g_w|^2 + scale <g_w, g_l>.
    assert -power + scale * along <= -mu * power + 1e-9
    if along <= (1 - mu) * power:
        assert scale == pytest.approx(1)
    if scale < 1:
        # Never less than what is safe.
        assert -power + scale * along == pytest.approx(-mu * power, abs=1e-9)


def test_the_safeguard_by_hand() -> None:
    winner = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    loser = torch.tensor([[4.0, 3.0], [-4.0, 3.0], [4.0, -9.0]])
    everywhere = torch.ones(3, 2, dtype=torch.bool)
    assert safe_scale(winner, loser, everywhere, 0.0).tolist() == [0.25, 1, 1]
    assert safe_scale(winner, loser, everywhere, 0.5).tolist() == [0.125, 1, 1]
    assert safe_scale(winner, loser, everywhere, 1.0).tolist() == [0, 1, 1]
    # On the first pixel alone the third pair pulls the same way.
    first = torch.tensor([[True, False]] * 3)
    assert safe_scale(winner, loser, first, 0.0).tolist() == [0.25, 1, 0.25]
    with pytest.raises(SegprefError, match="0 to 1"):
        safe_scale(winner, loser, everywhere, 1.5)


@pytest.mark.parametrize("reduction", ["image", "region"])
def test_the_safeguard_scales_the_losers_gradient_and_no_value(reduction: Reduction) -> None:
    case = made(2)
    plain, safe = margins(case, reduction), margins(case, reduction, safeguard=0.9)
    torch.testing.assert_close(plain.policy, safe.policy)
    region = (case["masks"][0] != case["masks"][1])[:, 0]
    winner, loser = residuals(case["policy"], case)
    support = torch.ones_like(region) if reduction == "image" else region
    scale = safe_scale(winner, loser, support, 0.9)
    assert (scale < 1).any()
    size = support.flatten(1).sum(1)
    parts = [0.5 * ((part**2 * support).flatten(1).sum(1) / size) for part in (winner, loser)]
    network = case["policy"]
    expected = gradient(network, (scale * parts[1] - parts[0]).sum())
    torch.testing.assert_close(gradient(network, safe.policy.sum()), expected)


def test_a_step_with_the_safeguard_does_not_harm_the_winner() -> None:
    """In output space, where the bound is exact to first order."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)
    loser_side = 3 * shared + 0.1 * torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)
    region = torch.ones(1, 8, 8, dtype=torch.bool)
    changes = {}
    for safeguard in (None, 0.0, 0.9):
        # One output serves both masks, so that pushing the loser away pushes the winner, too.
        output = torch.zeros(1, 8, 8, dtype=torch.float64, requires_grad=True)
        both = torch.stack([output + shared, output + loser_side])
        found = diffusion_margins(
            both, both.detach(), region, mined(1), "image", safeguard=safeguard
        )
        (slope,) = torch.autograd.grad(DPO(1.0)(found).sum(), output)
        before = (shared**2).mean()
        changes[safeguard] = (((shared - 1e-3 * slope) ** 2).mean() - before).item()
    assert changes[None] > 0
    assert changes[0.9] < changes[0.0] <= 1e-9
