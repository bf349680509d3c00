"""What holds for every objective, whatever its formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from types import ModuleType
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from made_margins import ALL, BATCH, everything

import segpref.contrib.objectives
import segpref.objectives
from segpref.contrib.objectives import DrDPO
from segpref.objectives import grouped, update_strength
from segpref.types import Margins, Objective, SegprefError

EACH = pytest.mark.parametrize("name", ALL)
# Not those with batch statistics, which are constants to the gradient.
SMOOTH = [n for n, each in ALL.items() if type(each) is DrDPO or type(each).__name__ not in BATCH]
WITH_BETA = sorted({type(each).__name__ for each in ALL.values()} - {"ORPO"})
DELTAS = [-1.7, -0.4, 0.3, 0.9, 2.6]


def test_none_is_left_out():
    exported = {
        name
        for package in (segpref.objectives, segpref.contrib.objectives)
        for name in package.__all__
        if "__call__" in vars(getattr(package, name))
    }
    assert {type(objective).__name__ for objective in ALL.values()} == exported - {
        "FocalDiceLoss",
        "OneHotLoss",
        "SupervisedLoss",
    }


@EACH
def test_one_loss_and_one_pull_per_pair(name):
    objective, margins = ALL[name], everything(DELTAS)
    losses = objective(margins)
    assert isinstance(objective, Objective)
    assert losses.shape == (5,)
    assert losses.dtype == torch.float64
    strength = update_strength(margins, objective)
    assert strength.shape == (5,)
    assert torch.isfinite(strength).all()
    assert not strength.requires_grad
    single = everything(DELTAS)
    single = replace(
        single,
        **{
            field.name: value.float()
            for field in fields(Margins)
            if (value := getattr(single, field.name)) is not None
        },
    )
    assert objective(single).dtype == torch.float32
    torch.testing.assert_close(objective(single).double(), losses, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_the_slope(name):
    """Finite differences; batch statistics, which have no gradient, are tested by hand elsewhere."""
    objective, margins = ALL[name], everything(DELTAS)

    def loss(policy: torch.Tensor, winner: torch.Tensor) -> torch.Tensor:
        return objective(replace(margins, policy=policy, winner=winner))

    policy = margins.policy.clone().requires_grad_()
    winner = margins.winner.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (policy, winner))


@EACH
def test_pairs_do_not_see_each_other_but_in_batch_objectives(name):
    objective, margins = ALL[name], everything(DELTAS)
    alone = torch.cat(
        [
            objective(
                Margins(
                    *(
                        getattr(margins, field.name)[place : place + 1]
                        for field in fields(Margins)[:6]
                    )
                )
            )
            for place in range(5)
        ]
    )
    together = objective(margins)
    same = torch.allclose(alone, together, rtol=1e-12)
    assert same == (type(objective).__name__ not in BATCH)


@EACH
def test_one_pair_is_enough(name):
    margins = everything([0.4])
    assert torch.isfinite(ALL[name](margins)).all()
    assert torch.isfinite(update_strength(margins, ALL[name])).all()


@EACH
def test_equal_pairs_have_equal_losses(name):
    """As at the start of stage 2, where policy and reference are one and every margin is 0."""
    still = Margins(*(value[:1].repeat(4) for value in _columns(everything([0.0]))))
    losses = ALL[name](replace(still, reference=still.policy))
    assert torch.isfinite(losses).all()
    assert torch.isfinite(update_strength(still, ALL[name])).all()
    if name != "BetaDPO filtered":
        torch.testing.assert_close(losses, losses[:1].repeat(4))


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_margins_stay_finite(name, dtype):
    margins = everything([-1e4, -90.0, 0.0, 90.0, 1e4])
    margins = Margins(*(value.to(dtype) for value in _columns(margins)))
    policy = margins.policy.clone().requires_grad_()
    winner = margins.winner.clone().requires_grad_()
    losses = ALL[name](replace(margins, policy=policy, winner=winner))
    assert torch.isfinite(losses).all()
    losses.sum().backward()
    grads = [leaf.grad for leaf in (policy, winner) if leaf.grad is not None]
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)


@EACH
def test_settings_survive_a_recipe(name):
    objective = ALL[name]
    assert is_dataclass(objective)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Callable[[Margins], Any])
    settings = {
        "class_path": f"{_package(type(objective).__name__).__name__}.{type(objective).__name__}",
        "init_args": asdict(objective),
    }
    made = parser.instantiate_classes(parser.parse_object({"objective": settings})).objective
    assert made == objective


@EACH
def test_margins_that_come_in_groups(name):
    """A group of two halves is the pair that it was cut from."""
    whole = everything(DELTAS)
    halves = Margins(
        *(value.repeat_interleave(2) for value in _columns(whole)),
        weight=torch.full((10,), 0.5, dtype=torch.float64),
        group=torch.arange(5).repeat_interleave(2),
    )
    torch.testing.assert_close(ALL[name](grouped(halves)), ALL[name](whole))
    torch.testing.assert_close(
        update_strength(halves, ALL[name]),
        update_strength(whole, ALL[name]).repeat_interleave(2) / 2,
    )


@pytest.mark.parametrize("name", ["RPO", "ORPO"])
def test_without_the_likelihood_it_needs_an_objective_says_so(name):
    assert ALL[name].needs_likelihood
    with pytest.raises(SegprefError, match="needs the winner's log-likelihood"):
        ALL[name](replace(everything([0.1]), winner=None))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("RPO", {"alpha": -0.1}),
        ("SimPO", {"gamma": float("nan")}),
        ("ORPO", {"ratio_weight": -1.0}),
        ("ODPO", {"alpha": float("inf")}),
        ("ODPO", {"scaling": "square"}),
        ("SoftDPO", {"temperature": 0.0}),
        ("UncertaintyPenalizedDPO", {"penalty": -1.0}),
        ("UncertaintyPenalizedDPO", {"temperature": 0.0}),
        ("UncertaintyPenalizedDPO", {"scheme": "pessimistic"}),
        ("DPOPRO", {"rho": -0.1}),
        ("DPOPRO", {"temperature": -1.0}),
        ("DrDPO", {"beta_prime": 0.0}),
        ("BetaDPO", {"alpha": -1.0}),
        ("BetaDPO", {"keep": 0.0}),
        ("AlphaDPO", {"alpha": -1.0}),
        ("GammaPO", {"tau": 0.0}),
        ("GammaPO", {"gamma": -1.0}),
        *((name, {"beta": 0.0}) for name in WITH_BETA),
    ],
)
def test_settings_out_of_range_are_refused(name, settings):
    with pytest.raises(SegprefError, match=next(iter(settings))):
        getattr(_package(name), name)(**settings)


def _package(name: str) -> ModuleType:
    core = name in segpref.objectives.__all__
    return segpref.objectives if core else segpref.contrib.objectives


def _columns(margins: Margins) -> list[torch.Tensor]:
    return [getattr(margins, field.name) for field in fields(Margins)[:6]]
