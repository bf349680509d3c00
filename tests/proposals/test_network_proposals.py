"""Monte-Carlo dropout and intensity TTA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from segpref.proposals import (
    IntensityTTA,
    IntensityViews,
    MonteCarloDropout,
    NetworkProposal,
    ProposalContext,
    UniformOffset,
    intensity_views,
    mean_mask,
)
from segpref.types import LabelSpace, SegprefError

CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))


class State:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class Network:
    """Logits that are simple functions of the image; dropout samples that are given."""

    def __init__(self, label_space: LabelSpace, samples: Tensor | None = None) -> None:
        self.label_space = label_space
        self.samples = samples
        self.seen: list[Tensor] = []
        self.asked: list[tuple[int, float | None, list[int]]] = []

    def logits(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return torch.cat([images * (1 - 2 * c) for c in range(self.label_space.channels)], dim=1)

    def forward(self, images: Tensor) -> State:
        return State(self.logits(images))

    def dropout_logits(
        self, state: State, count: int, rate: float | None, seeds: Sequence[int]
    ) -> Tensor | None:
        self.asked.append((count, rate, list(seeds)))
        return self.samples


def given(**predictions: np.ndarray) -> ProposalContext:
    anchor = np.zeros((1, 2, 2), np.uint8)
    return ProposalContext(
        np.zeros((3, 2, 2), np.float32), anchor, CARDIAC, predictions=predictions
    )


def test_the_mean_is_one_of_probabilities_and_not_of_votes() -> None:
    # Two hesitant samples for class 1 and one that is sure of class 2.
    samples = torch.tensor([[0.0, 0.4, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 9.0]])
    network = Network(CARDIAC, samples.reshape(3, 1, 3, 1, 1))
    found = MonteCarloDropout(samples=3, rate=0.3).predict(
        network, State(torch.zeros(1, 3, 1, 1)), torch.zeros(1, 1, 1, 1), seeds=[5]
    )
    assert network.asked == [(3, 0.3, [5])]
    assert found is not None
    assert found["dropout"].shape == (1, 3, 1, 1, 1)
    assert found["dropout"].flatten().tolist() == [1, 1, 2]
    assert found["dropout-mean"].flatten().tolist() == [2]


def test_the_mean_of_structures_is_cut_at_one_half() -> None:
    # Sigmoids .5 + .88 over 2 = .69; and .5 + .12 over 2 = .31.
    samples = torch.tensor([[0.0, 0.0], [2.0, -2.0]]).reshape(2, 1, 2, 1, 1)
    found = MonteCarloDropout(samples=2).predict(
        Network(CHEST, samples), State(torch.zeros(1, 2, 1, 1)), torch.zeros(1, 1, 1, 1), seeds=[0]
    )
    assert found is not None
    assert found["dropout-mean"].flatten().tolist() == [1, 0]
    assert found["dropout"].flatten().tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("space", [CARDIAC, CHEST])
def test_dropout_agrees_with_numpy(space: LabelSpace) -> None:
    samples = torch.randn(4, 2, space.channels, 3, 5, generator=torch.Generator().manual_seed(0))
    found = MonteCarloDropout(samples=4).predict(
        Network(space, samples), State(samples[0]), torch.zeros(2, 1, 3, 5), seeds=[0, 1]
    )
    assert found is not None
    z = samples.numpy().astype(np.float64)
    if space.kind == "multi-class":
        mean = (np.exp(z) / np.exp(z).sum(2, keepdims=True)).mean(0).argmax(1)[:, None]
        each = z.argmax(2)[:, :, None]
    else:
        mean, each = (1 / (1 + np.exp(-z))).mean(0) > 0.5, z > 0
    np.testing.assert_array_equal(found["dropout-mean"].numpy(), mean)
    np.testing.assert_array_equal(found["dropout"].numpy(), each.swapaxes(0, 1))


@settings(max_examples=100)
@for_all(st.integers(0, 2**32 - 1), st.integers(2, 6), st.sampled_from([0, 1, -1]))
def test_decoding_is_numpys_argmax_also_where_logits_are_equal(
    seed: int, classes: int, dim: int
) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, (classes, 4, 5)) / 2.0)
    space = LabelSpace("multi-class", tuple("abcdef"[:classes]))
    decoded = space.decode(logits.movedim(0, dim), channel_dim=dim).movedim(dim, 0)
    assert decoded.dtype == torch.uint8
    np.testing.assert_array_equal(decoded[0].numpy(), logits.numpy().argmax(0))


def test_decoding_with_a_lead_by_hand() -> None:
    # The last class leads by .5, .5 + .2, and by .5 over 0 but only .1 over 1.
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, -0.2, 0.4], [0.5, 0.5, 0.5]])
    assert CARDIAC.decode(logits, 0).tolist() == [[2, 2, 2]]
    assert CARDIAC.decode(logits, 0, lead=0.3).tolist() == [[2, 2, 1]]
    assert CARDIAC.decode(logits, 0, lead=0.5).tolist() == [[0, 0, 0]]
    structures = torch.tensor([[0.2], [0.5]])
    assert CHEST.decode(structures, 0, lead=0.3).tolist() == [[0], [1]]


def everywhere(samples: Tensor, space: LabelSpace) -> Tensor:
    """The mask of the mean with the probabilities of every pixel."""
    total = torch.zeros(samples.shape[1:])
    for sample in samples.float():
        total += sample.softmax(1) if space.kind == "multi-class" else sample.sigmoid()
    return space.decode(total - len(samples) / 2)


@pytest.mark.slow
@settings(max_examples=300)
@for_all(
    st.integers(0, 2**32 - 1),
    st.sampled_from([CARDIAC, CHEST]),
    st.integers(1, 7),
    st.sampled_from([(8, 8), (4, 4, 12)]),
    st.sampled_from([0.0, 0.01, 1.0, 10.0]),
    st.sampled_from(["as they are", "ties", "nearly ties", "bfloat16"]),
)
def test_the_mean_needs_no_probabilities_where_all_agree(
    seed: int, space: LabelSpace, count: int, shape: tuple[int, ...], spread: float, kind: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(1, 2, space.channels, *shape, generator=generator)
    own = torch.randn(count, 2, space.channels, *shape, generator=generator)
    samples = 3 * common + spread * own
    if kind in ("ties", "nearly ties"):
        samples = samples.round()
    if kind == "nearly ties":
        samples += 1e-7 * torch.randint(-3, 4, samples.shape, generator=generator)
    if kind == "bfloat16":
        samples = samples.bfloat16()
    found = mean_mask(samples.unbind(), [space.decode(one) for one in samples], space)
    assert torch.equal(found, everywhere(samples, space))


def test_a_few_disputed_pixels_are_rounded_like_all() -> None:
    # Five pixels of 64 where two classes change places from one sample to the other, and lead by
    # the smallest difference that there is or by none.
    rng = np.random.default_rng(1)
    for _ in range(400):
        lead, third = rng.uniform((0.5, -2), (3, 1), (5, 2)).astype(np.float32).T
        other = np.where(rng.random(5) < 0.7, np.nextafter(lead, np.float32(4)), lead)
        samples = torch.zeros(2, 1, 3, 64)
        samples[:, :, 0] = 5.0
        samples[0, 0, :, 3:8] = torch.from_numpy(np.stack([0 * lead, lead, third]))
        samples[1, 0, :, 3:8] = torch.from_numpy(np.stack([other, 0 * lead, third]))
        samples = samples.reshape(2, 1, 3, 8, 8)
        found = mean_mask(samples.unbind(), [CARDIAC.decode(one) for one in samples], CARDIAC)
        assert torch.equal(found, everywhere(samples, CARDIAC))


@pytest.mark.parametrize("space", [CARDIAC, CHEST])
def test_the_order_of_a_tensors_memory_does_not_matter(space: LabelSpace) -> None:
    generator = torch.Generator().manual_seed(2)
    samples = torch.randn(3, 2, space.channels, 8, 8, generator=generator)
    turned = [one.to(memory_format=torch.channels_last) for one in samples]
    found = mean_mask(turned, [space.decode(one) for one in turned], space)
    assert torch.equal(found, everywhere(samples, space))


def test_a_lead_that_rounding_takes_away_is_none_in_the_mean() -> None:
    # Both samples decode to class 1, but all their probabilities are 1/3 in single precision.
    sample = torch.zeros(1, 3, 1, 1)
    sample[:, 1] = 1e-8
    masks = [CARDIAC.decode(sample)] * 2
    assert masks[0].item() == 1
    assert mean_mask([sample, sample], masks, CARDIAC).item() == 0


def test_without_a_dropout_layer_there_is_nothing() -> None:
    state = State(torch.zeros(1, 3, 2, 2))
    images = torch.zeros(1, 1, 2, 2)
    assert (
        MonteCarloDropout().predict(Network(CARDIAC), state, images, seeds=[0] * len(images))
        is None
    )
    assert list(MonteCarloDropout()(given())) == []
    assert list(IntensityTTA()(given())) == []


def test_candidates_of_dropout_are_the_mean_and_then_the_samples() -> None:
    samples = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    found = list(MonteCarloDropout()(given(**{"dropout": samples, "dropout-mean": samples[2]})))
    assert [dict(settings) for settings, _ in found] == [
        {"mean": 3},
        {"sample": 1},
        {"sample": 2},
        {"sample": 3},
    ]
    assert [int(mask[0, 0, 0]) for _, mask in found] == [2, 0, 1, 2]


def test_intensity_views_by_hand() -> None:
    images = torch.tensor([10.0, 12.5, 20.0]).reshape(1, 1, 1, 3)
    gamma, bright, contrast = intensity_views(images, (0.5,), (0.2,), (2.0,))
    torch.testing.assert_close(gamma.flatten(), torch.tensor([10.0, 15.0, 20.0]))
    torch.testing.assert_close(bright.flatten(), torch.tensor([12.0, 14.5, 22.0]))
    mean = 42.5 / 3
    torch.testing.assert_close(contrast.flatten(), torch.tensor([20 - mean, 25 - mean, 40 - mean]))


def test_views_treat_every_image_and_channel_for_itself() -> None:
    images = torch.rand(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    images[1] = images[1] * 100 - 7
    together = list(intensity_views(images, (0.8,), (0.1,), (0.9,)))
    for b, c in np.ndindex(3, 2):
        alone = intensity_views(images[b : b + 1, c : c + 1], (0.8,), (0.1,), (0.9,))
        for whole, single in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[b, c], single[0, 0])


def test_a_constant_image_stays_finite() -> None:
    images = torch.full((1, 1, 2, 2), 3.0)
    for view in intensity_views(images, (0.5,), (0.1,), (2.0,)):
        torch.testing.assert_close(view, images)


def test_tta_is_the_mean_over_image_and_views_with_one_pass_per_view() -> None:
    network = Network(CARDIAC)
    images = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    state = network.forward(images)
    network.seen.clear()
    family = IntensityTTA(gammas=(0.5, 2.0), brightness=(0.3,), contrasts=())
    found = family.predict(network, state, images, seeds=[0] * len(images))
    assert len(network.seen) == family.views == 3
    views = torch.stack([images, *network.seen])
    z = torch.cat([views * (1 - 2 * c) for c in range(3)], dim=2)
    expected = z.softmax(2).mean(0).argmax(1, keepdim=True)
    assert found is not None
    assert found["tta"].dtype == torch.uint8
    assert torch.equal(found["tta"].long(), expected)


def test_each_view_is_a_candidate_of_its_own() -> None:
    network = Network(CARDIAC)
    images = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    family = IntensityViews((0.5,), (-0.4,), (3.0,))
    found = family.predict(network, network.forward(images), images, seeds=[0, 0])
    assert found is not None
    views = list(intensity_views(images, (0.5,), (-0.4,), (3.0,)))
    expected = torch.stack([network.logits(view).argmax(1, keepdim=True) for view in views], 1)
    assert torch.equal(found["intensity"].long(), expected)
    assert expected.flatten(2).unique(dim=1).shape[1] > 1
    candidates = list(family(given(intensity=found["intensity"][1].numpy())))
    assert [settings for settings, _ in candidates] == [
        {"gamma": 0.5}, {"brightness": -0.4}, {"contrast": 3.0},
    ]  # fmt: skip
    np.testing.assert_array_equal([mask for _, mask in candidates], expected[1].numpy())
    assert list(family(given())) == []


def test_tta_has_one_candidate() -> None:
    found = list(IntensityTTA()(given(tta=np.ones((1, 2, 2), np.uint8))))
    assert [dict(settings) for settings, _ in found] == [{"views": 5}]


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(SegprefError, match="samples must be at least 1"):
        MonteCarloDropout(samples=0)
    with pytest.raises(SegprefError, match="at least one gamma"):
        IntensityTTA((), (), ())
    with pytest.raises(SegprefError, match="at least one gamma"):
        IntensityViews(())
    with pytest.raises(SegprefError, match="gammas must be above 0"):
        IntensityViews((0.5, 0.0))


def test_only_these_need_the_network() -> None:
    assert isinstance(MonteCarloDropout(), NetworkProposal)
    assert isinstance(IntensityTTA(), NetworkProposal)
    assert isinstance(IntensityViews(), NetworkProposal)
    assert not isinstance(UniformOffset(), NetworkProposal)
