"""The Probabilistic U-Net: its latent, its loss, and the samplers that draw with such networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from segpref.inference import DropoutSampler, EnsembleSampler, LatentSampler, sample_cases
from segpref.networks import Gaussian, GaussianEncoder, ProbabilisticUNet
from segpref.objectives import negative_elbo
from segpref.policies import Segmenter
from segpref.types import Case, LabelSpace, SegprefError

SPACE = LabelSpace("multi-label", ("blob",))
TINY: dict[str, Any] = {"channels": [4, 8], "features": 4, "latent": 2, "latent_channels": 4}


def network(seed: int = 0, **changes: Any) -> ProbabilisticUNet:
    torch.manual_seed(seed)
    return ProbabilisticUNet(**{**TINY, **changes}).eval()


def cases(count: int) -> list[Case]:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((count, 1, 8, 8)).astype(np.float32)
    return [
        Case(id=f"c{n}", patient=f"c{n}", volume=f"c{n}", image=image)
        for n, image in enumerate(images)
    ]


def logits_of(sampler: Any, model: Any, count: int, seed: int = 0, images: int = 3) -> Tensor:
    drawn = torch.randn(images, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    seeds = [[1000 * seed + 100 * image + n for n in range(count)] for image in range(images)]
    found: Tensor = sampler.soft(model, drawn, [[None] * count] * images, seeds)
    return found


def test_the_divergence_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours = [Gaussian(torch.randn(5, 3), torch.randn(5, 3)) for _ in range(2)]
    theirs = [Independent(Normal(one.mean, one.log_std.exp()), 1) for one in ours]
    torch.testing.assert_close(ours[0].divergence(ours[1]), kl_divergence(*theirs))


def test_the_bound_by_hand() -> None:
    # Two pixels with probabilities 3/4 and 1/4, one marked and one not: each costs ln(4/3). A third,
    # undecided, costs ln 2, whatever the mask. KL(N(1, 1) || N(0, 1)) is a half.
    logits = torch.tensor([[[[math.log(3), -math.log(3), 0.0]]]])
    masks = torch.tensor([[[[1, 0, 1]]]], dtype=torch.uint8)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    divergence = Gaussian(one, zero).divergence(Gaussian(zero, zero))
    expected = 2 * math.log(4 / 3) + math.log(2) + 10 * 0.5
    assert negative_elbo(logits, masks, divergence, 10).item() == pytest.approx(expected)
    # An empty mask is a mask: the first pixel costs ln 4, the second ln(4/3).
    empty = negative_elbo(logits, torch.zeros_like(masks), torch.zeros(1), 10)
    assert empty.item() == pytest.approx(math.log(4) + math.log(4 / 3) + math.log(2))


def test_the_bound_has_the_gradient_of_its_differences() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    masks, unit = (torch.rand(2, 1, 4, 4) > 0.5).byte(), torch.randn(2, 2, dtype=torch.float64)
    model = network().double().train()
    learned = dict(model.named_parameters())

    def loss(*weights: Tensor) -> Tensor:
        given = dict(zip(learned, weights, strict=True))
        logits, divergence = torch.func.functional_call(model, given, (images, masks, unit))
        return negative_elbo(logits, masks, divergence, 3).sum()

    weights = tuple(one.detach().requires_grad_() for one in learned.values())
    assert torch.autograd.gradcheck(loss, weights, fast_mode=True)
    grown = torch.autograd.grad(loss(*weights), weights)
    silent = {name for name, one in zip(learned, grown, strict=True) if not one.any()}
    # A bias before a normalisation moves nothing.
    assert all(name.startswith("unet.") and name.endswith("bias") for name in silent)


def test_in_training_the_latent_is_the_posteriors() -> None:
    model, images = network(), torch.randn(2, 1, 8, 8)
    masks, unit = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.randn(2, 2)
    features, prior = model.encode(images)
    assert prior is not None
    posterior = model.posterior(torch.cat([images, torch.full((2, 1, 8, 8), -1.0)], dim=1))
    logits, divergence = model(images, masks, unit)
    torch.testing.assert_close(logits, model.decode(features, posterior.sample(unit)))
    torch.testing.assert_close(divergence, posterior.divergence(prior))
    torch.testing.assert_close(model(images), model.decode(features, prior.mean))


def test_without_a_latent_it_is_a_plain_unet() -> None:
    model, images = network(latent=0), torch.randn(2, 1, 8, 8)
    masks = torch.ones(2, 1, 8, 8, dtype=torch.uint8)
    logits, divergence = model(images, masks, torch.zeros(2, 0))
    torch.testing.assert_close(logits, model(images))
    assert not divergence.any()
    assert not any("prior" in name or "posterior" in name for name in model.state_dict())


def test_what_is_known_beside_an_image_counts() -> None:
    torch.manual_seed(0)
    encoder, image = GaussianEncoder(1, 4, 2, beside=3), torch.randn(1, 1, 8, 8)
    one, other = (encoder(image, torch.full((1, 3), value)).mean for value in (0.0, 1.0))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("shape", [(1, 1, 7, 8), (1, 1, 8, 8, 8)])
def test_images_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(SegprefError, match=r"prepare with dims 2|multiples of 2"):
        network()(torch.zeros(shape))


SAMPLERS = [LatentSampler(), DropoutSampler(0.4)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda one: type(one).__name__)
def test_a_sample_is_a_function_of_its_image_and_seed(sampler: Any) -> None:
    model = Segmenter(network(), SPACE)
    few, more = logits_of(sampler, model, 2), logits_of(sampler, model, 5)
    assert more.shape == (3, 5, 1, 8, 8)
    torch.testing.assert_close(more[:, :2], few)
    torch.testing.assert_close(logits_of(sampler, model, 2, images=1), few[:1])
    assert torch.equal(logits_of(sampler, model, 2), few)
    assert len({one.numpy().tobytes() for one in more.flatten(0, 1)}) == 15
    assert not torch.allclose(logits_of(sampler, model, 2, seed=1), few)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda one: type(one).__name__)
def test_cases_are_drawn_from_seed_id_and_number(sampler: Any) -> None:
    model, ours = Segmenter(network(), SPACE), cases(3)
    masks = sample_cases(model, ours, 6, sampler, seed=4)
    again = sample_cases(model, ours[::-1], 3, sampler, seed=4)
    for first, second in zip(masks, again[::-1], strict=True):
        assert first.dtype == np.uint8
        assert np.array_equal(first[:3], second)
    other = sample_cases(model, ours, 6, sampler, seed=5)
    assert any(not np.array_equal(a, b) for a, b in zip(masks, other, strict=True))


def test_an_ensemble_repeats_its_members() -> None:
    members = [Segmenter(network(seed, latent=0), SPACE) for seed in range(3)]
    sampler = EnsembleSampler(3)
    drawn = logits_of(sampler, members, 7)
    for n in range(7):
        torch.testing.assert_close(drawn[:, n], logits_of(sampler, [members[n % 3]], 1)[:, 0])
    assert len({one.numpy().tobytes() for one in drawn[0]}) == 3
    torch.testing.assert_close(logits_of(sampler, members, 2), drawn[:, :2])


def test_passes_per_sample() -> None:
    assert LatentSampler().passes(16) == 1 / 16
    assert DropoutSampler(0.1).passes(16) == 1
    assert EnsembleSampler(4).passes(16) == 4 / 16
    # Two samples ask two members.
    assert EnsembleSampler(4).passes(2) == 1


def test_a_latent_is_drawn_from_the_prior() -> None:
    model = network()
    drawn = logits_of(LatentSampler(), Segmenter(model, SPACE), 1, images=1)
    image = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))[:1]
    with torch.no_grad():
        features, prior = model.encode(image)
        assert prior is not None
        unit = torch.randn(2, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(drawn[0], model.decode(features, prior.sample(unit[None])))


def test_a_network_without_a_latent_to_draw() -> None:
    model = Segmenter(torch.nn.Conv2d(1, 1, 1), SPACE)
    with pytest.raises(SegprefError, match="has no latent to draw"):
        logits_of(LatentSampler(), model, 1)
