"""Margins against the definition by log-softmax and log-sigmoid, in double precision by autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from segpref.objectives import (
    disagreement,
    log_likelihood,
    log_ratio_map,
    log_ratio_sums,
    margins,
    reduce_margin,
)
from segpref.types import IGNORE, Candidate, LabelSpace, Pairs, SegprefError, Slate

CLASSES = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
STRUCTURES = LabelSpace("multi-label", ("lung", "heart", "clavicle"))
SETTINGS = [
    pytest.param(space, shape, ignore, id=f"{space.kind}-{len(shape)}d-{'ignore' * ignore}")
    for space in (CLASSES, STRUCTURES)
    for shape in ((9, 11), (5, 6, 7))
    for ignore in (False, True)
]


def make_slates(
    rng: np.random.Generator, space: LabelSpace, shape: tuple[int, ...], images: int = 3, k: int = 5
) -> list[Slate]:
    """Candidates that differ from the first on about a tenth of the image."""
    slates = []
    for _ in range(images):
        base = rng.integers(0, space.values, (1, space.fields, *shape))
        change = rng.random((k, space.fields, *shape)) < 0.1
        change[0] = False
        masks = np.where(change, (base + 1) % space.values, base).astype(np.uint8)
        slates.append(Slate(masks, (Candidate("made up"),) * k))
    return slates


def make_pairs(
    rng: np.random.Generator, space: LabelSpace, images: int = 3, k: int = 5, count: int = 8
) -> Pairs:
    winner = rng.integers(0, k, count)
    return Pairs(
        case=rng.integers(0, images, count),
        field=rng.integers(0, space.fields, count),
        winner=winner,
        loser=(winner + rng.integers(1, k, count)) % k,
        gap=rng.random(count) + 0.1,
    )


def by_definition(
    logits: Tensor,
    slates: list[Slate],
    pairs: Pairs,
    space: LabelSpace,
    ignored: np.ndarray | None,
    region: bool,
) -> Tensor:
    """Eq. 1 to 3 or 9 and 10 as printed, one pair after the other, with log-likelihood maps."""
    found = []
    for case, field, winner, loser in zip(
        pairs.case, pairs.field, pairs.winner, pairs.loser, strict=True
    ):
        likelihoods = []
        for k in (winner, loser):
            mask = torch.from_numpy(slates[case].masks[k, field].astype(np.int64))
            if space.kind == "multi-class":
                each = torch.log_softmax(logits[case], 0).gather(0, mask[None])[0]
            else:
                p = torch.sigmoid(logits[case, field])
                each = mask * p.log() + (1 - mask) * (1 - p).log()
            likelihoods.append(each)
        omega = torch.ones(mask.shape) if ignored is None else torch.from_numpy(~ignored[case])
        differ = torch.from_numpy(
            slates[case].masks[winner, field] != slates[case].masks[loser, field]
        )
        over = omega * differ if region else omega
        found.append(((likelihoods[0] - likelihoods[1]) * over).sum() / over.sum())
    return torch.stack(found)


@pytest.mark.parametrize(("space", "shape", "ignore"), SETTINGS)
@pytest.mark.parametrize("reduction", ["image", "region"])
def test_margins_and_gradients_are_those_of_the_definition(space, shape, ignore, reduction):
    rng = np.random.default_rng(1)
    slates, pairs = make_slates(rng, space, shape), make_pairs(rng, space)
    ignored = rng.random((3, *shape)) < 0.3 if ignore else None
    logits = torch.randn(3, space.channels, *shape, generator=torch.Generator().manual_seed(2)) * 3
    weights = torch.linspace(-1, 2, len(pairs), dtype=torch.float64)

    exact = logits.double().requires_grad_()
    expected = by_definition(exact, slates, pairs, space, ignored, reduction == "region")
    (slope,) = torch.autograd.grad((expected * weights).sum(), exact)

    region = disagreement(slates, pairs, space, ignored)
    logits.requires_grad_()
    found = reduce_margin(log_ratio_sums(logits, region), region, reduction)
    (gradient,) = torch.autograd.grad((found * weights.float()).sum(), logits)

    assert len(region) == len(pairs)
    assert found.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected.detach(), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=1e-9)


def test_worked_example_multi_class():
    slate = Slate(np.array([[[0, 1, 2]], [[0, 2, 0]]], dtype=np.uint8), (Candidate("a"),) * 2)
    space = LabelSpace("multi-class", ("none", "one", "two"))
    pairs = Pairs(*(np.array([v]) for v in (0, 0, 0, 1)), gap=np.array([0.5]))
    logits = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]]])
    region = disagreement([slate], pairs, space)
    # Second pixel: 5 - 8; third pixel: 10 - 3.
    assert log_ratio_sums(logits, region).tolist() == [4.0]
    assert (region.region.tolist(), region.omega.tolist()) == ([2], [3])
    assert region.fraction.tolist() == pytest.approx([2 / 3])
    assert reduce_margin(torch.tensor([4.0]), region, "region").tolist() == [2.0]
    assert reduce_margin(torch.tensor([4.0]), region, "image").tolist() == pytest.approx([4 / 3])
    halfway = reduce_margin(torch.tensor([4.0]), region, ("power", 0.5))
    assert halfway.tolist() == pytest.approx([4 / 6**0.5])


def test_worked_example_multi_label():
    masks = np.array([[[0, 1, 1]], [[1, 0, 1]]], dtype=np.uint8)
    both = np.concatenate([np.zeros_like(masks), masks], axis=1)
    slate = Slate(both, (Candidate("a"),) * 2)
    space = LabelSpace("multi-label", ("first", "second"))
    pairs = Pairs(*(np.array([v]) for v in (0, 1, 0, 1)), gap=np.array([0.5]))
    logits = torch.tensor([[[9.0, 9.0, 9.0], [2.0, 7.0, -1.0]]])
    region = disagreement([slate], pairs, space)
    assert log_ratio_sums(logits, region).tolist() == [5.0]
    assert region.region.tolist() == [2]


@pytest.mark.parametrize("space", [CLASSES, STRUCTURES], ids=lambda s: s.kind)
def test_bfloat16_is_widened_first_and_rounded_once(space):
    rng = np.random.default_rng(3)
    shape = (16, 16)
    slates, pairs = make_slates(rng, space, shape), make_pairs(rng, space, count=40)
    region = disagreement(slates, pairs, space)
    logits = torch.randn(3, space.channels, *shape, generator=torch.Generator().manual_seed(4))
    low = logits.bfloat16().requires_grad_()
    found = reduce_margin(log_ratio_sums(low, region), region, "region")
    (gradient,) = torch.autograd.grad(found.square().sum(), low)

    exact = low.detach().double().requires_grad_()
    expected = by_definition(exact, slates, region.pairs, space, None, region=True)
    (slope,) = torch.autograd.grad(expected.square().sum(), exact)

    assert found.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), slope, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("space", [CLASSES, STRUCTURES], ids=lambda s: s.kind)
def test_gradcheck(space):
    rng = np.random.default_rng(5)
    slates, pairs = make_slates(rng, space, (4, 5)), make_pairs(rng, space)
    region = disagreement(slates, pairs, space)
    logits = torch.randn(3, space.channels, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: log_ratio_sums(z, region), logits)
    assert log_ratio_sums(logits, region).dtype == torch.float64


@given(st.data())
def test_eq_12(data):
    """The image margin is the region margin times the disagreement fraction."""
    space = data.draw(st.sampled_from([CLASSES, STRUCTURES]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=3)))
    slates, pairs = make_slates(rng, space, shape), make_pairs(rng, space)
    ignored = rng.random((3, *shape)) < data.draw(st.floats(0, 0.5))
    region = disagreement(slates, pairs, space, ignored)
    logits = torch.from_numpy(rng.normal(size=(3, space.channels, *shape)))
    normalised = reduce_margin(log_ratio_sums(logits, region), region, "region")
    assert torch.isfinite(normalised).all()
    if len(region):
        whole = by_definition(logits, slates, region.pairs, space, ignored, region=False)
        torch.testing.assert_close(region.fraction * normalised, whole, atol=1e-9, rtol=1e-9)


@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_power_reductions_lie_between_image_and_region(a, seed):
    rng = np.random.default_rng(seed)
    slates, pairs = make_slates(rng, CLASSES, (6, 6)), make_pairs(rng, CLASSES)
    region = disagreement(slates, pairs, CLASSES)
    ones = torch.ones(len(region), dtype=torch.float64)
    image, power, whole = (
        reduce_margin(ones, region, reduction) for reduction in ("image", ("power", a), "region")
    )
    assert (power >= image * (1 - 1e-12)).all()
    assert (power <= whole * (1 + 1e-12)).all()
    torch.testing.assert_close(power, image ** (1 - a) * whole**a)


@pytest.mark.parametrize("space", [CLASSES, STRUCTURES], ids=lambda s: s.kind)
def test_equal_masks_give_no_pair(space):
    rng = np.random.default_rng(6)
    slates = make_slates(rng, space, (8, 8), images=1, k=3)
    slates[0].masks[1] = slates[0].masks[0]
    pairs = Pairs(
        case=np.zeros(3, int),
        field=np.zeros(3, int),
        winner=np.array([0, 1, 2]),
        loser=np.array([1, 2, 2]),
        gap=np.array([0.1, 0.2, 0.3]),
    )
    region = disagreement(slates, pairs, space)
    assert (region.pairs.winner.tolist(), region.pairs.gap.tolist()) == ([1], [0.2])

    only_ignored = slates[0].masks[1, 0] != slates[0].masks[2, 0]
    nothing = disagreement(slates, pairs, space, only_ignored[None])
    logits = torch.randn(1, space.channels, 8, 8, requires_grad=True)
    found = margins(logits, logits.detach(), nothing, "region")
    assert len(nothing) == len(found.policy) == len(found.gap) == 0
    (gradient,) = torch.autograd.grad(found.difference.sum(), logits)
    assert torch.count_nonzero(gradient) == 0


def test_ignore_in_candidates_is_no_part_of_omega():
    masks = np.array([[[0, 1, 1, IGNORE]], [[1, IGNORE, 1, IGNORE]]], dtype=np.uint8)
    slate = Slate(masks, (Candidate("a"),) * 2)
    pairs = Pairs(*(np.array([v]) for v in (0, 0, 0, 1)), gap=np.array([0.5]))
    logits = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [5.0, 7.0, 9.0, 11.0]]])
    region = disagreement([slate], pairs, LabelSpace("multi-class", ("no", "yes")))
    assert (region.region.tolist(), region.omega.tolist()) == ([1], [2])
    assert log_ratio_sums(logits, region).tolist() == [-4.0]


def test_reference_gets_no_gradient_and_policy_does():
    rng = np.random.default_rng(7)
    slates, pairs = make_slates(rng, CLASSES, (8, 8)), make_pairs(rng, CLASSES)
    region = disagreement(slates, pairs, CLASSES)
    policy = torch.randn(3, 4, 8, 8, requires_grad=True)
    reference = torch.randn(3, 4, 8, 8, requires_grad=True)
    found = margins(policy, reference, region, "region")
    assert found.policy.requires_grad
    assert not found.reference.requires_grad
    np.testing.assert_allclose(found.gap.numpy(), region.pairs.gap, rtol=1e-6)
    same = margins(policy, policy, region, "region")
    assert torch.count_nonzero(same.difference) == 0


def test_memory_layout_of_the_logits_does_not_matter():
    rng = np.random.default_rng(8)
    slates, pairs = make_slates(rng, CLASSES, (8, 8)), make_pairs(rng, CLASSES)
    region = disagreement(slates, pairs, CLASSES)
    logits = torch.randn(3, 4, 8, 8)
    gradients = []
    for z in (logits.clone(), logits.to(memory_format=torch.channels_last)):
        z.requires_grad_()
        sums = log_ratio_sums(z, region)
        gradients.append(torch.autograd.grad(sums.sum(), z)[0])
        torch.testing.assert_close(sums, log_ratio_sums(logits, region), rtol=0, atol=0)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_to_moves_every_tensor():
    rng = np.random.default_rng(9)
    region = disagreement(make_slates(rng, CLASSES, (4, 4)), make_pairs(rng, CLASSES), CLASSES).to(
        "meta"
    )
    places = (region.index, region.lengths, region.region, region.omega)
    assert {place.device.type for place in places} == {"meta"}


@pytest.mark.parametrize("space", [CLASSES, STRUCTURES], ids=lambda s: s.kind)
def test_dense_map_is_the_difference_of_log_probabilities(space):
    generator = torch.Generator().manual_seed(10)
    logits = torch.randn(2, space.channels, 5, 6, generator=generator, dtype=torch.float64)
    shape = (2, 2, space.fields, 5, 6)
    winners, losers = torch.randint(0, space.values, shape, generator=generator).to(torch.uint8)
    if space.kind == "multi-class":
        truth = torch.distributions.Categorical(logits=logits.movedim(1, -1))
        expected = (truth.log_prob(winners[:, 0]) - truth.log_prob(losers[:, 0]))[:, None]
    else:
        truth = torch.distributions.Bernoulli(logits=logits)
        expected = truth.log_prob(winners.double()) - truth.log_prob(losers.double())
    found = log_ratio_map(logits, winners, losers, space)
    torch.testing.assert_close(found, expected)
    winners[0, 0, 0, 0] = IGNORE
    assert log_ratio_map(logits, winners, losers, space)[0, 0, 0, 0] == 0


@pytest.mark.parametrize("space", [CLASSES, STRUCTURES], ids=lambda s: s.kind)
def test_log_likelihood_is_eq_1_and_2_over_the_known_pixels(space):
    generator = torch.Generator().manual_seed(11)
    logits = torch.randn(2, space.channels, 5, 6, generator=generator, dtype=torch.float64)
    masks = torch.randint(0, space.values, (2, space.fields, 5, 6), generator=generator)
    if space.kind == "multi-class":
        each = torch.distributions.Categorical(logits=logits.movedim(1, -1)).log_prob(masks[:, 0])
        each = each[:, None]
    else:
        each = torch.distributions.Bernoulli(logits=logits).log_prob(masks.double())
    whole = log_likelihood(logits, masks.to(torch.uint8), space)
    torch.testing.assert_close(whole, each.mean(dim=(2, 3)))
    masks[:, :, :, 3:] = IGNORE
    half = log_likelihood(logits, masks.to(torch.uint8), space)
    torch.testing.assert_close(half, each[..., :3].mean(dim=(2, 3)))
    none = torch.full_like(masks, IGNORE).to(torch.uint8)
    assert torch.count_nonzero(log_likelihood(logits, none, space)) == 0


def test_an_unknown_mask_value_is_refused():
    slate = Slate(np.array([[[0, 1]], [[0, 4]]], dtype=np.uint8), (Candidate("a"),) * 2)
    pairs = Pairs(*(np.array([v]) for v in (0, 0, 0, 1)), gap=np.array([0.5]))
    with pytest.raises(SegprefError, match="holds the value 4"):
        disagreement([slate], pairs, CLASSES)


def test_logits_of_another_shape_are_refused():
    rng = np.random.default_rng(12)
    region = disagreement(make_slates(rng, CLASSES, (4, 4)), make_pairs(rng, CLASSES), CLASSES)
    with pytest.raises(SegprefError, match=r"logits of shape \(3, 5, 4, 4\)"):
        log_ratio_sums(torch.zeros(3, 5, 4, 4), region)


@pytest.mark.parametrize("reduction", ["pixel", ("power", 1.5), ("power",), ("image", 1)])
def test_unknown_reductions_are_refused(reduction):
    rng = np.random.default_rng(13)
    region = disagreement(make_slates(rng, CLASSES, (4, 4)), make_pairs(rng, CLASSES), CLASSES)
    with pytest.raises(SegprefError, match="a reduction is"):
        reduce_margin(torch.ones(len(region)), region, reduction)
