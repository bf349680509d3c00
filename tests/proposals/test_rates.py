"""Candidates by dropout rate, threshold and input noise."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segpref.networks import DropoutKind
from segpref.policies import Segmenter
from segpref.preferences import Extremes, mine
from segpref.proposals import (
    RATES_2D,
    RATES_3D,
    THRESHOLDS,
    DropoutRates,
    InputNoise,
    NetworkProposal,
    Proposal,
    ProposalContext,
    StochasticPolicy,
    Thresholds,
    dropout_diversity,
    full_slates,
)
from segpref.types import Case, LabelSpace, Policy, SegprefError

BINARY = LabelSpace("multi-class", ("background", "lesion"))
CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))


class Stochastic(Segmenter):
    """A segmenter that remembers the rates that it was asked for."""

    def __init__(self, network: nn.Module, space: LabelSpace) -> None:
        super().__init__(network, space)
        self.asked: list[tuple[float, DropoutKind]] = []

    def stochastic_logits(
        self, images: Tensor, rate: float, seeds: Sequence[int], kind: DropoutKind = "element"
    ) -> Tensor | None:
        self.asked.append((rate, kind))
        return super().stochastic_logits(images, rate, seeds, kind)


def network(outputs: int, dims: int = 2) -> nn.Module:
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            conv(1, 16, 3, padding=1), nn.ReLU(), conv(16, 16, 3, padding=1), nn.ReLU(),
            conv(16, outputs, 1),
        )  # fmt: skip


def policy(space: LabelSpace, dims: int = 2) -> Stochastic:
    made = network(space.channels, dims)
    # Every class has its share of an untrained network's prediction.
    with torch.no_grad():
        head = made[4]
        head.bias -= made(images(4, dims)).mean(dim=(0, *range(2, dims + 2)))
    return Stochastic(made, space)


def images(count: int = 3, dims: int = 2) -> Tensor:
    size = (20, 24) if dims == 2 else (8, 10, 12)
    return torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(1))


def cases(batch: Tensor, names: Sequence[int] | None = None) -> list[Case]:
    names = range(len(batch)) if names is None else names
    return [
        Case(id=f"p{n}", patient=f"p{n}", volume=f"p{n}", image=image.numpy())
        for n, image in zip(names, batch, strict=True)
    ]


def context(logits: Tensor, space: LabelSpace) -> ProposalContext:
    anchor = space.decode(logits, channel_dim=0)
    return ProposalContext(logits.numpy(), anchor.numpy(), space)


def test_the_settings_of_the_paper() -> None:
    assert pytest.approx([0.005 * step for step in range(11)]) == RATES_2D
    assert pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]) == RATES_3D
    assert pytest.approx([0.375 + 0.025 * step for step in range(11)]) == THRESHOLDS
    assert DropoutRates().candidates == Thresholds().candidates == InputNoise().candidates == 10
    assert DropoutRates(RATES_3D, samples=3).candidates == 18


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("space", [BINARY, CARDIAC, CHEST])
def test_a_slate_has_the_anchor_and_every_rate(space: LabelSpace, dims: int) -> None:
    rates = (0.0, 0.1, 0.2, 0.3)
    model, batch = policy(space, dims), images(dims=dims)
    slates = full_slates(DropoutRates(rates, 2, "channel"))
    found = slates(model, model.forward(batch), batch, cases(batch), seed=5)
    assert model.asked == [(rate, "channel") for rate in (0.1, 0.2, 0.3) * 2]
    for number, slate in enumerate(found):
        assert slate.masks.shape == (7, space.fields, *batch.shape[2:])
        assert [str(candidate) for candidate in slate.candidates] == [
            "anchor",
            *(f"dropout-rate (rate {rate}, sample {n})" for n in (1, 2) for rate in rates[1:]),
        ]
        assert len({mask.tobytes() for mask in slate.masks}) == 7
        anchor = space.decode(model.logits(batch[number : number + 1]))
        np.testing.assert_array_equal(slate.masks[0], anchor[0].numpy())


@pytest.mark.parametrize("family", [DropoutRates((0.1, 0.3), 2), InputNoise((0.1, 0.3), 2)])
def test_a_case_has_the_same_slate_in_any_batch(family: DropoutRates | InputNoise) -> None:
    model, batch = policy(CARDIAC), images()
    builder = full_slates(family)
    together = builder(model, model.forward(batch), batch, cases(batch), 5, (2,))
    order = [2, 0]
    others = builder(
        model, model.forward(batch[order]), batch[order], cases(batch[order], order), 5, (2,)
    )
    for other, place in zip(others, order, strict=True):
        differs = (other.masks != together[place].masks).mean()
        # Convolutions of other batches may differ in the last bit.
        assert differs < 1e-3
    again = builder(model, model.forward(batch), batch, cases(batch), 5, (3,))
    assert (again[0].masks[1] != together[0].masks[1]).mean() > 1e-3


def test_best_and_worst_of_a_slate_are_a_pair() -> None:
    model, batch = policy(BINARY), images(1)
    builder = full_slates(DropoutRates((0.05, 0.5), 3))
    (slate,) = builder(model, model.forward(batch), batch, cases(batch), 0)
    truth = slate.masks[0]
    scores = np.array([[2 * (m & truth).sum() / (m.sum() + truth.sum())] for m in slate.masks])
    mined = mine(Extremes(0.05), [scores], [np.random.default_rng(0)])
    assert mined.pairs.winner.tolist() == [0]
    assert mined.pairs.loser.tolist() == [int(scores.argmin())]
    assert slate.candidates[int(scores.argmin())].settings["rate"] == 0.5
    assert not len(mine(Extremes(0.99), [scores], [np.random.default_rng(0)]).pairs)


def test_a_policy_that_cannot_gives_its_places_away(caplog: pytest.LogCaptureFixture) -> None:
    batch = images()
    segmenter = Segmenter(network(3), CARDIAC)
    state = segmenter.forward(batch)
    # A policy of the user's own, which has the four verbs of a policy and no more.
    plain = SimpleNamespace(
        label_space=CARDIAC,
        forward=segmenter.forward,
        logits=segmenter.logits,
        digest=segmenter.digest,
        dropout_logits=segmenter.dropout_logits,
    )
    assert isinstance(plain, Policy)
    assert not isinstance(plain, StochasticPolicy)
    assert DropoutRates().predict(plain, state, batch, [0]) is None
    assert list(DropoutRates()(context(state.logits[0].detach(), CARDIAC))) == []
    pointwise = Stochastic(nn.Conv2d(1, 3, 1), CARDIAC)
    assert isinstance(pointwise, StochasticPolicy)
    assert DropoutRates().predict(pointwise, pointwise.forward(batch), batch, [0]) is None
    with caplog.at_level(logging.WARNING):
        full_slates(DropoutRates())(plain, state, batch, cases(batch), 0)
    assert "dropout-rate needs a pass" in caplog.text


def test_thresholds_by_hand() -> None:
    # Probabilities .4, .5, .6 of the structure; log(2/3) = -.405.
    probabilities = torch.tensor([0.4, 0.5, 0.6])
    chest = torch.stack([probabilities.logit(), probabilities.flip(0).logit()])[:, None]
    masks = {
        float(settings["threshold"]): mask.tolist()
        for settings, mask in Thresholds((0.375, 0.45, 0.5, 0.55))(context(chest, CHEST))
    }
    assert masks == {
        0.375: [[[1, 1, 1]], [[1, 1, 1]]],
        0.45: [[[0, 1, 1]], [[1, 1, 0]]],
        0.5: [[[0, 0, 1]], [[1, 0, 0]]],
        0.55: [[[0, 0, 1]], [[1, 0, 0]]],
    }
    # Background .5, RV .3, MYO .2: RV against the background is .375.
    heart = torch.tensor([0.5, 0.3, 0.2]).log().reshape(3, 1, 1)
    found = [mask.item() for _, mask in Thresholds((0.37, 0.38))(context(heart, CARDIAC))]
    assert found == [1, 0]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_with_two_classes_a_threshold_cuts_the_probability(seed: int, threshold: float) -> None:
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(seed))
    ((_, mask),) = Thresholds((threshold,))(context(logits, BINARY))
    probability = logits.double().softmax(0)[1].numpy()
    clear = np.abs(probability - threshold) > 1e-5
    np.testing.assert_array_equal(mask[0][clear], (probability > threshold)[clear])


@pytest.mark.parametrize("space", [BINARY, CARDIAC, CHEST])
def test_a_half_is_the_anchor_and_lower_thresholds_hold_more(space: LabelSpace) -> None:
    logits = torch.randn(space.channels, 30, 30, generator=torch.Generator().manual_seed(2)).round()
    made = context(logits, space)
    masks = [mask for _, mask in Thresholds()(made)]
    np.testing.assert_array_equal(masks[5], made.anchor)
    foreground = [mask > 0 for mask in masks]
    for lower, higher in itertools.pairwise(foreground):
        assert (lower >= higher).all()


def test_noise_is_relative_to_the_range_of_the_image() -> None:
    seen: list[Tensor] = []

    class Watched(Stochastic):
        def logits(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().logits(images)

    model = Watched(network(3), CARDIAC)
    unit = torch.rand(2, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    batch = torch.stack([unit[0], 100 * unit[1] - 7])
    family = InputNoise((0.0, 0.02, 0.05))
    found = family.predict(model, model.forward(batch), batch, seeds=range(len(batch)))
    assert found is not None
    assert found["input-noise"].shape == (2, 2, 1, 200, 200)
    for noisy, size in zip(seen, (0.02, 0.05), strict=True):
        deviation = (noisy - batch).std(dim=(1, 2, 3))
        torch.testing.assert_close(deviation, torch.tensor([size, 100 * size]), rtol=0.03, atol=0)
    # Independent of each other, between images and between deviations.
    noise = torch.stack([(noisy - batch).flatten(1) for noisy in seen]).flatten(0, 1)
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.03


def test_diversity_falls_with_the_rate() -> None:
    found = dropout_diversity(policy(CARDIAC), images(), (0.0, 0.05, 0.2, 0.5), samples=6)
    values = list(found.values())
    assert list(found) == [0.0, 0.05, 0.2, 0.5]
    assert values[0] == 1
    assert values == sorted(values, reverse=True)
    assert values[1] < 0.99


def test_no_diversity_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert dropout_diversity(policy(CARDIAC), images(), (0.2,))[0.2] < 0.99
        assert not caplog.records
        assert dropout_diversity(policy(CARDIAC), images(), (0.0,)) == {0.0: 1.0}
        assert "hardly differ" in caplog.text
        empty = policy(CARDIAC)
        with torch.no_grad():
            empty.network[4].bias[0] += 100
        caplog.clear()
        assert np.isnan(dropout_diversity(empty, images(), (0.2,))[0.2])
        assert "hardly differ" in caplog.text
        pointwise = Stochastic(nn.Conv2d(1, 3, 1), CARDIAC)
        assert dropout_diversity(pointwise, images(), (0.1,)) == {0.1: 1.0}
        assert "No dropout can be put" in caplog.text
    with pytest.raises(SegprefError, match="at least 2 samples"):
        dropout_diversity(policy(CARDIAC), images(), samples=1)


def test_settings_without_sense_are_refused() -> None:
    for rates in ((), (0.0,), (-0.1, 0.2), (0.5, 1.0)):
        with pytest.raises(SegprefError, match="rates from 0 to below 1"):
            DropoutRates(rates)
    for deviations in ((), (0.0,), (-0.1, 0.2), (float("inf"),)):
        with pytest.raises(
            SegprefError, match=r"deviations (from 0|must be a list .each a finite number)"
        ):
            InputNoise(deviations)
    for thresholds in ((), (0.0, 0.5), (0.5, 1.0)):
        with pytest.raises(SegprefError, match="numbers between 0 and 1"):
            Thresholds(thresholds)
    with pytest.raises(SegprefError, match="1 sample per rate"):
        DropoutRates(samples=0)
    with pytest.raises(SegprefError, match="1 sample per deviation"):
        InputNoise(samples=0)


def test_they_satisfy_the_protocols() -> None:
    assert all(isinstance(f, Proposal) for f in (DropoutRates(), Thresholds(), InputNoise()))
    assert isinstance(DropoutRates(), NetworkProposal)
    assert isinstance(InputNoise(), NetworkProposal)
    assert not isinstance(Thresholds(), NetworkProposal)
