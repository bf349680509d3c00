"""Segmenters that draw masks by a latent: their latents, margins and mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from segpref.inference import LatentSampler
from segpref.networks import ProbabilisticUNet
from segpref.objectives import disagreement
from segpref.policies import LatentMargins, LatentSegmenter, NetworkSpec, PolicySpec
from segpref.types import Candidate, LabelSpace, Pairs, SegprefError, Slate

SPACE = LabelSpace("multi-label", ("one", "two"))
SEEDS = [[1, 2, 3], [4, 5, 6]]


def policy(seed: int = 0) -> LatentSegmenter:
    torch.manual_seed(seed)
    network = ProbabilisticUNet(
        out_channels=2, channels=(4, 8), features=4, latent=2, latent_channels=4
    )
    return LatentSegmenter(network, SPACE)


def images() -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def slates(of: LatentSegmenter) -> list[Slate]:
    masks = LatentSampler().cut(LatentSampler().soft(of, images(), [[None] * 3] * 2, SEEDS))
    # The samples of an untrained network may be equal.
    masks[:, 1, :, 2:4] ^= 1
    return [Slate(one, (Candidate("sample", {}),) * 3) for one in masks]


def chosen(gap: float = 1.0) -> Pairs:
    columns = ([0, 1, 1], [0, 0, 1], [1, 0, 2], [0, 1, 1])
    case, field, winner, loser = (np.array(one, np.int64) for one in columns)
    return Pairs(case, field, winner, loser, np.full(3, gap, np.float32))


def found(ours: LatentSegmenter, reference: LatentSegmenter, rows: slice = slice(None)) -> Any:
    made = slates(reference)
    region = disagreement(made, chosen(), SPACE)
    latents = reference.latents(images(), SEEDS)
    source = LatentMargins(ours, reference, images()[rows], latents[rows])
    return source(made, region, "region")


def test_latents_are_those_that_samples_were_drawn_by() -> None:
    ours = policy()
    logits = LatentSampler().soft(ours, images(), [[None] * 3] * 2, SEEDS)
    with torch.no_grad():
        again, densities = ours.network(images(), latents=ours.latents(images(), SEEDS))
    torch.testing.assert_close(again, logits)
    prior = ours.network.prior(images())  # type: ignore[operator]
    torch.testing.assert_close(densities, prior.log_density(ours.latents(images(), SEEDS)))


def test_a_policy_that_is_its_reference_prefers_nothing() -> None:
    assert found(policy(), policy()).difference.abs().max() < 1e-6
    assert found(policy(1), policy()).difference.abs().max() > 1e-3


def test_margins_are_of_the_structure_that_was_asked_about() -> None:
    ours, reference = policy(1), policy()
    latents = reference.latents(images(), SEEDS)
    made = slates(reference)
    logits, densities = (one.detach() for one in ours.network(images(), latents=latents))
    before, known = (one.detach() for one in reference.network(images(), latents=latents))
    for place, (case, field, winner, loser) in enumerate(
        zip(
            *(getattr(chosen(), name) for name in ("case", "field", "winner", "loser")), strict=True
        )
    ):
        told = []
        for values, density in ((logits, densities), (before, known)):
            each = []
            for k in (winner, loser):
                mask = torch.from_numpy(made[case].masks[k, field]).float()
                probability = torch.sigmoid(values[case, k, field])
                each.append(
                    (
                        mask * probability.log() + (1 - mask) * (1 - probability).log(),
                        density[case, k],
                    )
                )
            differs = torch.from_numpy(
                made[case].masks[winner, field] != made[case].masks[loser, field]
            )
            told.append(
                ((each[0][0] - each[1][0])[differs].sum() + each[0][1] - each[1][1]) / differs.sum()
            )
        difference = found(ours, reference).difference[place]
        torch.testing.assert_close(difference, told[0] - told[1], atol=1e-4, rtol=1e-4)


def test_zero_and_logits() -> None:
    ours = policy()
    source = LatentMargins(ours, policy(), images(), ours.latents(images(), SEEDS))
    zero = source.zero()
    assert zero.item() == 0
    zero.backward()  # type: ignore[no-untyped-call]
    silent = {n for n, one in ours.network.named_parameters() if one.grad is None}
    assert silent
    assert all(name.startswith("posterior") for name in silent)
    with pytest.raises(SegprefError, match="learn from preferences alone"):
        _ = source.logits


@pytest.mark.parametrize(
    "network", [nn.Conv2d(1, 2, 1), ProbabilisticUNet(channels=(4, 8), latent=0, out_channels=2)]
)
def test_a_network_without_a_latent(network: nn.Module) -> None:
    with pytest.raises(SegprefError, match="has no latent that masks could be drawn by"):
        LatentSegmenter(network, SPACE)


def test_latents_for_a_network_without_any() -> None:
    plain = ProbabilisticUNet(channels=(4, 8), latent=0)
    with pytest.raises(SegprefError, match="no latent: leave latents out"):
        plain(torch.zeros(1, 1, 8, 8), latents=torch.zeros(1, 1, 0))


def test_a_file_may_name_it() -> None:
    network = NetworkSpec("segpref.networks.ProbabilisticUNet", {"out_channels": 2}).build()
    built = PolicySpec("segpref.policies.LatentSegmenter").build(network, SPACE)
    assert built.logits(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 8, 8)
