"""Likelihoods of masks: by hand, by the definition, and in the objectives that ask for them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segpref.contrib.objectives import ORPO, RPO, SimPO
from segpref.objectives import disagreement, log_likelihood, margins, winner_log_likelihood
from segpref.types import IGNORE, Candidate, LabelSpace, Pairs, Slate

CLASSES = LabelSpace("multi-class", ("background", "a", "b"))
STRUCTURES = LabelSpace("multi-label", ("a", "b"))
REDUCTIONS = ["image", "region", ("power", 0.3)]


def one_pair(winner, loser, case=0, field=0):
    masks = np.array([winner, loser], np.uint8)
    slates = [Slate(masks, (Candidate("x"),) * 2)]
    pairs = Pairs(*(np.array([n]) for n in (case, field, 0, 1)), np.array([0.3]))
    return slates, pairs


# Two classes. The class logit difference is log 3, 0, log 3, -log 3, and anything at the ignored
# pixel: class 1 has the probabilities 3/4, 1/2, 3/4, 1/4.
BINARY = LabelSpace("multi-class", ("background", "a"))
LOGITS = torch.zeros(1, 2, 1, 5, dtype=torch.float64)
LOGITS[0, 1, 0] = torch.tensor([math.log(3), 0, math.log(3), -math.log(3), 9.0])
WINNER, LOSER = [[[1, 1, 1, 0, IGNORE]]], [[[1, 0, 1, 1, 1]]]
# They differ in pixels 1 and 3, where the winner has 1/2 and 3/4 and the loser 1/2 and 1/4;
# both have 3/4 in pixels 0 and 2. Omega has four pixels.
BY_HAND = {
    "image": (math.log(3 / 4 * 1 / 2 * 3 / 4 * 3 / 4) / 4, math.log(3) / 4),
    "region": (math.log(1 / 2 * 3 / 4) / 2, math.log(3) / 2),
    # |R|^1/2 |Omega|^1/2 = sqrt 8, and half of the agreed pixels' share.
    ("power", 0.5): (
        math.log(3 / 8) / math.sqrt(8) + 0.5 * math.log(9 / 16) / 4,
        math.log(3) / math.sqrt(8),
    ),
}


def through(reduction):
    slates, pairs = one_pair(WINNER, LOSER)
    region = disagreement(slates, pairs, BINARY)
    found = margins(LOGITS, torch.zeros_like(LOGITS), region, reduction)
    whole = winner_log_likelihood(LOGITS, slates, region, BINARY, reduction)
    return replace(found, winner=whole)


@pytest.mark.parametrize("reduction", BY_HAND)
def test_one_row_of_pixels_by_hand(reduction):
    winner, margin = BY_HAND[reduction]
    found = through(reduction)
    assert found.winner.item() == pytest.approx(winner)
    assert found.policy.item() == pytest.approx(margin)


def test_objectives_on_a_row_of_pixels_by_hand():
    # Region: likelihoods sqrt(3/8) and sqrt(1/8) per pixel, odds 1.579796 and 0.546918, ratio
    # 2.888548. -log 0.6123724 = 0.4904146, -log(2.888548 / 3.888548) = 0.2972813.
    assert ORPO(0.5)(through("region")).item() == pytest.approx(0.4904146 + 0.5 * 0.2972813)
    # The margin is log(3) / 2, the reference's 0: log(1 + 3^-1) with beta 2.
    expected = math.log(4 / 3) + 0.5 * 0.4904146
    assert RPO(2.0, 0.5)(through("region")).item() == pytest.approx(expected)
    # Image: the margin is log(3) / 4 and the winner's likelihood (27/128)^(1/4).
    expected = math.log(4 / 3) - 0.5 * math.log(27 / 128) / 4
    assert RPO(4.0, 0.5)(through("image")).item() == pytest.approx(expected)
    assert SimPO(4.0, 0.0)(through("image")).item() == pytest.approx(math.log(4 / 3))


@pytest.mark.parametrize("space", [CLASSES, STRUCTURES], ids=lambda space: space.kind)
@pytest.mark.parametrize("reduction", REDUCTIONS, ids=str)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_against_the_likelihood_of_masks_one_at_a_time(space, reduction, seed):
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, space.values, (2, 4, space.fields, 3, 4)).astype(np.uint8)
    masks[rng.random(masks.shape) < 0.05] = IGNORE
    ignored = rng.random((2, 3, 4)) < 0.1
    slates = [Slate(each, (Candidate("x"),) * 4) for each in masks]
    pairs = Pairs(
        case=rng.integers(0, 2, 5),
        field=rng.integers(0, space.fields, 5),
        winner=rng.integers(0, 2, 5),
        loser=rng.integers(2, 4, 5),
        gap=np.ones(5),
    )
    region = disagreement(slates, pairs, space, ignored)
    logits = torch.tensor(rng.normal(size=(2, space.channels, 3, 4)) * 3)
    found = winner_log_likelihood(logits, slates, region, space, reduction, ignored)
    margin = margins(logits, logits, region, reduction).policy

    kept = region.pairs
    for row, (c, f, better, worse) in enumerate(
        zip(kept.case, kept.field, kept.winner, kept.loser, strict=True)
    ):
        unknown = ignored[c] | (masks[c, better, f] == IGNORE) | (masks[c, worse, f] == IGNORE)
        agreed = masks[c, better, f] == masks[c, worse, f]

        def mean(mask, where, c=c, f=f):
            told = np.full((1, space.fields, 3, 4), IGNORE, np.uint8)
            told[0, f] = np.where(where, masks[c, mask, f], IGNORE)
            return log_likelihood(logits[c : c + 1], torch.from_numpy(told), space)[0, f].item()

        for mask, value in ((better, found[row]), (worse, found[row] - margin[row])):
            inside, outside = ~unknown & ~agreed, ~unknown & agreed
            sums = [mean(mask, where) * where.sum() for where in (inside, outside)]
            omega = inside.sum() + outside.sum()
            a = {"image": 0.0, "region": 1.0}.get(reduction, 0.3)
            size = inside.sum() ** a * omega ** (1 - a)
            assert value.item() == pytest.approx(sums[0] / size + (1 - a) * sums[1] / omega)
            assert value.item() < 1e-12
            if reduction == "image":
                assert value.item() == pytest.approx(mean(mask, ~unknown))


@pytest.mark.parametrize("space", [CLASSES, STRUCTURES], ids=lambda space: space.kind)
def test_gradient_precision_and_nothing(space):
    rng = np.random.default_rng(3)
    masks = rng.integers(0, 2, (3, space.fields, 3, 4)).astype(np.uint8)
    slates = [Slate(masks, (Candidate("x"),) * 3)]
    zero = np.zeros(2, np.int64)
    pairs = Pairs(zero, zero, np.array([1, 2]), zero, np.ones(2))
    region = disagreement(slates, pairs, space)
    logits = torch.tensor(rng.normal(size=(1, space.channels, 3, 4)), requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda z: winner_log_likelihood(z, slates, region, space, ("power", 0.4)), (logits,)
    )
    half = logits.detach().bfloat16().requires_grad_()
    low = winner_log_likelihood(half, slates, region, space, "image")
    exact = winner_log_likelihood(half.detach().double(), slates, region, space, "image")
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), exact, rtol=1e-6, atol=1e-6)
    low.sum().backward()
    assert half.grad.dtype == torch.bfloat16
    none = disagreement(slates, Pairs(*(np.empty(0, np.int64),) * 4, np.empty(0)), space)
    assert winner_log_likelihood(logits, slates, none, space, "region").shape == (0,)


def test_far_logits_stay_finite():
    slates, pairs = one_pair(WINNER, LOSER)
    region = disagreement(slates, pairs, BINARY)
    logits = (LOGITS * 1e4).float().requires_grad_()
    found = winner_log_likelihood(logits, slates, region, BINARY, "image")
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(logits.grad).all()
