"""Margins of masks together with their latents, against worked numbers and torch's distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal

from segpref.networks import Gaussian
from segpref.objectives import JointLikelihood, joint_margins
from segpref.types import Margins, Pairs


def pairs(count: int) -> Pairs:
    zeros = np.zeros(count, np.int64)
    return Pairs(zeros, zeros, zeros, zeros + 1, np.ones(count, np.float32))


def margins(given: dict[str, Tensor], reduction: Any, **changes: bool) -> Margins:
    masks = given["masks"]
    policy, reference = (
        JointLikelihood.of(given[f"{who} logits"], masks, given[f"{who} latents"])
        for who in ("policy", "reference")
    )
    region = masks[0] != masks[1]
    return joint_margins(policy, reference, region, pairs(masks.shape[1]), reduction, **changes)


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    torch.manual_seed(0)
    found = {"masks": (torch.rand(2, *shape) > 0.5).byte()}
    for who in ("policy", "reference"):
        found[f"{who} logits"] = torch.randn(2, *shape, dtype=dtype)
        found[f"{who} latents"] = torch.randn(2, shape[0], dtype=dtype)
    return found


def test_a_pair_by_hand() -> None:
    # Four pixels; winner and loser differ on the first alone. By the winner's latent what its mask says
    # is 3 to 1 everywhere, by the loser's 1 to 1.
    three = math.log(3)
    given = {
        "masks": torch.tensor([[[1, 0, 0, 0]], [[0, 0, 0, 0]]], dtype=torch.uint8),
        "policy logits": torch.tensor([[[three, -three, -three, -three]], [[0.0] * 4]]),
        "policy latents": torch.tensor([[0.3], [0.1]]),
        "reference logits": torch.zeros(2, 1, 4),
        "reference latents": torch.zeros(2, 1),
    }
    each = math.log(3 / 4) - math.log(1 / 2)
    assert margins(given, "region").difference.tolist() == pytest.approx([each + 0.2])
    assert margins(given, "image").difference.tolist() == pytest.approx([(4 * each + 0.2) / 4])
    # Halfway between the two normalisers only the pixels on which they differ are heard, as of errors.
    power = margins(given, ("power", 0.5)).difference.tolist()
    assert power == pytest.approx([(each + 0.2) / 2])
    # A mask that is empty is a mask: the loser's likelihood counts, and so does an empty winner's.
    turned = {**given, "masks": given["masks"].flip(0)}
    assert margins(turned, "image", likelihood=True).winner is not None


@pytest.mark.parametrize("reduction", ["image", "region", ("power", 0.3)])
def test_it_is_the_likelihood_of_torchs_distributions(reduction: Any) -> None:
    given = drawn(3, 4, 5)
    region = given["masks"][0] != given["masks"][1]
    support = torch.ones_like(region) if reduction == "image" else region
    power = {"image": 0.0, "region": 1.0}.get(reduction, 0.3) if isinstance(reduction, str) else 0.3
    size = region.flatten(1).sum(1) ** power * 20 ** (1 - power)

    def likelihoods(who: str) -> Tensor:
        logits = given[f"{who} logits"]
        each = Bernoulli(logits=logits).log_prob(given["masks"].double()) * support
        return (each.flatten(2).sum(2) + given[f"{who} latents"]) / size

    found = margins(given, reduction, likelihood=True, reference_likelihood=True)
    policy, reference = likelihoods("policy"), likelihoods("reference")
    torch.testing.assert_close(found.policy, policy[0] - policy[1])
    torch.testing.assert_close(found.reference, reference[0] - reference[1])
    assert found.winner is not None
    assert found.reference_winner is not None
    torch.testing.assert_close(found.winner, policy[0])
    torch.testing.assert_close(found.reference_winner, reference[0])
    # What is not asked for is not computed.
    assert margins(given, reduction).winner is None


@pytest.mark.parametrize("reduction", ["image", "region"])
def test_gradients_are_those_of_differences(reduction: Any) -> None:
    given = drawn(2, 3, 3)

    def loss(logits: Tensor, latents: Tensor) -> Tensor:
        changed = {**given, "policy logits": logits, "policy latents": latents}
        return margins(changed, reduction).difference

    inputs = tuple(given[f"policy {one}"].requires_grad_() for one in ("logits", "latents"))
    assert torch.autograd.gradcheck(loss, inputs)


def test_swapping_winner_and_loser_turns_the_margin_round() -> None:
    given = drawn(2, 3, 3)
    swapped = {name: one.flip(0) for name, one in given.items()}
    for reduction in ("image", "region"):
        there, back = margins(given, reduction), margins(swapped, reduction)
        torch.testing.assert_close(there.difference, -back.difference)


def test_half_precision_is_widened() -> None:
    given = drawn(2, 3, 3, dtype=torch.bfloat16)
    assert margins(given, "image").policy.dtype == torch.float32


def test_the_density_of_a_latent_is_torchs() -> None:
    torch.manual_seed(0)
    mean, log_std, values = torch.randn(3, 2), torch.randn(3, 2), torch.randn(3, 4, 2)
    theirs = Independent(Normal(mean[:, None], log_std.exp()[:, None]), 1).log_prob(values)
    torch.testing.assert_close(Gaussian(mean, log_std).log_density(values), theirs)
