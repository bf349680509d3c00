"""Slates: K exact, anchor first, distinct, reproducible, and what happens when families cannot act."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

import segpref.proposals as proposals
from segpref.proposals import (
    CleanedDropoutMean,
    HoleFilling,
    IntensityTTA,
    IntensityViews,
    LogitBias,
    MonteCarloDropout,
    Proposal,
    ProposalContext,
    SlateProposals,
    UniformOffset,
    draw,
    families_of,
    lean_families,
    paper_families,
)
from segpref.seeds import generators
from segpref.types import Candidate, Case, LabelSpace, SegprefError, Slate

CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
CHEST = LabelSpace("multi-label", ("lung", "heart", "clavicle"))


class State:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class Network:
    """Given logits; other images give them shifted, dropout with noise."""

    def __init__(self, label_space: LabelSpace, given: Tensor, dropout: bool = True) -> None:
        self.label_space = label_space
        self.given = given
        self.dropout = dropout

    def logits(self, images: Tensor) -> Tensor:
        return self.given.roll(1, dims=-1)

    def forward(self, images: Tensor) -> State:
        return State(self.given)

    def dropout_logits(
        self, state: State, count: int, rate: float | None, seeds: Sequence[int]
    ) -> Tensor | None:
        if not self.dropout:
            return None
        shape = (count, *state.logits.shape[1:])
        noise = [torch.randn(shape, generator=one) for one in generators(seeds)]
        return state.logits + torch.stack(noise, dim=1)


def smooth(space: LabelSpace, shape: tuple[int, ...], batch: int = 2, seed: int = 0) -> Tensor:
    noise = np.random.default_rng(seed).standard_normal((batch, space.channels, *shape))
    return torch.from_numpy(
        (ndimage.gaussian_filter(noise, (0, 0, *[1.5] * len(shape))) * 10).astype(np.float32)
    )


def case(number: int, shape: tuple[int, ...], spacing: tuple[float, ...] | None = None) -> Case:
    name = f"patient{number:03}"
    image = np.zeros((1, *shape), np.float32)
    return Case(id=name, patient=name, volume=name, image=image, spacing_mm=spacing)


def slates(
    builder: SlateProposals,
    space: LabelSpace,
    logits: Tensor,
    *,
    seed: int = 0,
    keys: tuple[int, ...] = (),
    dropout: bool = True,
    spacing: tuple[float, ...] | None = None,
) -> list[Slate]:
    network = Network(space, logits, dropout)
    images = torch.zeros(len(logits), 1, *logits.shape[2:])
    cases = [case(number, logits.shape[2:], spacing) for number in range(len(logits))]
    return builder(network, network.forward(images), images, cases, seed, keys)


def distinct(slate: Slate) -> int:
    return len({mask.tobytes() for mask in slate.masks})


@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("space", [CARDIAC, CHEST])
@pytest.mark.parametrize("shape", [(32, 40), (10, 12, 14)])
def test_a_slate_is_full_distinct_and_starts_with_the_anchor(
    size: int, space: LabelSpace, shape: tuple[int, ...]
) -> None:
    logits = smooth(space, shape)
    for slate, anchor in zip(
        slates(SlateProposals(size), space, logits), space.decode(logits), strict=True
    ):
        assert slate.masks.shape == (size, space.fields, *shape)
        assert slate.masks.dtype == np.uint8
        assert slate.masks.max() < space.values
        assert len(slate) == distinct(slate) == size
        assert slate.candidates[0] == Candidate("anchor")
        np.testing.assert_array_equal(slate.masks[0], anchor.numpy())


@pytest.mark.parametrize("space", [CARDIAC, CHEST])
@pytest.mark.parametrize(("name", "most", "mixed"), [("paper", 9, 7), ("auto", 11, 6)])
def test_every_family_has_its_share(
    name: Literal["auto", "paper"], most: int, mixed: int, space: LabelSpace
) -> None:
    (slate,) = slates(SlateProposals(32, name), space, smooth(space, (48, 48), batch=1))
    families = Counter(candidate.family for candidate in slate.candidates)
    assert set(families) == {
        "anchor",
        *(family.family for family in families_of(name, space, 32, 2)),
    }
    assert max(families.values()) <= most
    given = "lean" if name == "auto" else name
    (small,) = slates(SlateProposals(8, given), space, smooth(space, (48, 48), batch=1))
    assert len({candidate.family for candidate in small.candidates}) >= mixed


def test_families_by_name() -> None:
    for space in (CARDIAC, CHEST):
        lean, paper = (
            {type(one) for one in families_of(name, space, 8, 2)} for name in ("lean", "paper")
        )
        assert lean - paper == {IntensityViews}
        assert paper - lean == {MonteCarloDropout, IntensityTTA, CleanedDropoutMean}
        # Small slates have too few places for edits beside two views that may be wrong.
        for size, expected in ((2, paper), (15, paper), (16, lean), (32, lean)):
            assert {type(one) for one in families_of("auto", space, size, 2)} == expected
            # In 3D lean ones are those of the paper, with fewer passes.
            volumes = families_of("auto", space, size, 3)
            assert [type(one) for one in volumes] == [type(one) for one in paper_families(space)]
            (samples,) = [one.samples for one in volumes if isinstance(one, MonteCarloDropout)]
            (views,) = [one.views for one in volumes if isinstance(one, IntensityTTA)]
            assert (samples, views) == ((4, 2) if size >= 16 else (6, 4))
        own = [UniformOffset()]
        assert families_of(own, space, 32, 3) is own
    assert SlateProposals(8).families == "auto"
    assert not SlateProposals(8, "paper").own_families
    assert SlateProposals(8, own).own_families is own


@settings(max_examples=40)
@given(
    st.integers(2, 40),
    st.sampled_from([CARDIAC, CHEST]),
    st.sampled_from([(1, 1), (1, 2), (3, 4), (6, 5), (2, 3, 4)]),
    st.integers(0, 10_000),
    st.sampled_from([-30, 0, 30]),
)
def test_any_logits_give_exactly_k(
    size: int, space: LabelSpace, shape: tuple[int, ...], seed: int, shift: int
) -> None:
    logits = smooth(space, shape, batch=1, seed=seed)
    logits[:, 0] += shift
    (slate,) = slates(SlateProposals(size), space, logits, seed=seed)
    assert len(slate) == len(slate.masks) == size
    assert slate.masks.max() < space.values
    np.testing.assert_array_equal(slate.masks[0], space.decode(logits)[0].numpy())
    first = distinct(slate)
    assert len({mask.tobytes() for mask in slate.masks[:first]}) == first


def test_a_seed_reproduces_the_slate_and_keys_change_it() -> None:
    logits = smooth(CARDIAC, (24, 24))
    one, again, other, later = (
        slates(SlateProposals(32, "paper"), CARDIAC, logits, seed=seed, keys=keys)
        for seed, keys in ((3, (1, 2)), (3, (1, 2)), (4, (1, 2)), (3, (1, 3)))
    )
    for a, b, c, d in zip(one, again, other, later, strict=True):
        np.testing.assert_array_equal(a.masks, b.masks)
        assert a.candidates == b.candidates
        assert not np.array_equal(a.masks, c.masks)
        assert not np.array_equal(a.masks, d.masks)


def rough(channels: int, shape: tuple[int, ...]) -> np.ndarray:
    """Logits that are the same on every machine: sums of integers over a power of two."""
    noise = np.random.default_rng(7).integers(-40, 41, (channels, *shape))
    for axis in [*range(1, noise.ndim)] * 2:
        noise = np.sum([np.roll(noise, shift, axis) for shift in range(-2, 3)], axis=0)
    return (noise / 2 ** (8 if len(shape) == 2 else 11)).astype(np.float32)


@pytest.mark.parametrize(
    ("space", "shape", "recorded"),
    [
        (CARDIAC, (48, 56), 3686414479),
        (CARDIAC, (12, 20, 24), 121273656),
        (CHEST, (48, 56), 299106232),
        (CHEST, (12, 20, 24), 897225669),
    ],
)
def test_slates_are_those_that_were_recorded(
    space: LabelSpace, shape: tuple[int, ...], recorded: int
) -> None:
    # Runs are reproduced from their seeds: an edit must not become another one unnoticed.
    logits = rough(space.channels, shape)
    anchor = space.decode(torch.from_numpy(logits), channel_dim=0).numpy()
    passes = {
        "dropout": anchor[np.newaxis],
        "dropout-mean": np.roll(anchor, 1, -1),
        "tta": np.roll(anchor, 1, -2),
    }
    spacing = (*[1.5] * (len(shape) - 1), 0.75)
    image = ProposalContext(logits, anchor, space, spacing, passes, np.random.default_rng(3))
    slate, _ = draw(image, paper_families(space), 48)
    assert distinct(slate) == 48
    assert zlib.crc32(slate.masks.tobytes()) == recorded


def test_edits_of_a_case_do_not_depend_on_its_batch() -> None:
    logits = smooth(CARDIAC, (24, 24), batch=3)
    builder = SlateProposals(32, [LogitBias((0.5,)), UniformOffset([1.0])])
    together = slates(builder, CARDIAC, logits)
    (alone,) = slates(builder, CARDIAC, logits[:1])
    np.testing.assert_array_equal(together[0].masks, alone.masks)


@pytest.mark.parametrize("space", [CARDIAC, CHEST])
def test_one_slice_of_a_volume_gives_the_slate_of_the_image(space: LabelSpace) -> None:
    logits = smooth(space, (24, 26), batch=1)
    for families in (lean_families(space), paper_families(space)):
        builder = SlateProposals(32, families)
        (flat,) = slates(builder, space, logits, dropout=False)
        (solid,) = slates(builder, space, logits.unsqueeze(2), dropout=False)
        np.testing.assert_array_equal(solid.masks[:, :, 0], flat.masks)
        assert solid.candidates == flat.candidates


def test_distances_are_in_the_cases_millimetres() -> None:
    logits = smooth(CHEST, (24, 24), batch=1)
    builder = SlateProposals(3, [UniformOffset([1.5])])
    (known,) = slates(builder, CHEST, logits, spacing=(1.5, 1.5))
    (unknown,) = slates(SlateProposals(3, [UniformOffset([1.0])]), CHEST, logits)
    assert known.candidates[1] == Candidate("uniform-offset", {"offset_mm": 1.5})
    assert unknown.candidates[1] == Candidate("uniform-offset", {"offset_voxels": 1.0})
    np.testing.assert_array_equal(known.masks, unknown.masks)


def test_a_network_without_dropout_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    builder = SlateProposals(16, "paper")
    logits = smooth(CARDIAC, (24, 24))
    with caplog.at_level(logging.WARNING):
        for seed in range(3):
            for slate in slates(builder, CARDIAC, logits, seed=seed, dropout=False):
                assert distinct(slate) == 16
                assert not any("dropout" in one.family for one in slate.candidates)
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "family dropout " in text]) == 1
    assert len(told) == len(set(told)) == 2


def test_an_empty_anchor_is_said_once_and_filled_with_repetitions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    builder = SlateProposals(8, [UniformOffset(), HoleFilling()])
    logits = torch.full((2, 3, 6, 6), -5.0)
    with caplog.at_level(logging.WARNING):
        for slate in slates(builder, CHEST, logits) + slates(builder, CHEST, logits):
            assert slate.candidates == (Candidate("anchor"),) * 8
            assert not slate.masks.any()
    assert sorted(record.getMessage().split()[2] for record in caplog.records) == [
        "hole-filling",
        "uniform-offset",
    ]
    assert "patient000" in caplog.records[0].getMessage()


def test_an_empty_label_map_still_gets_what_logits_can_give() -> None:
    logits = smooth(CARDIAC, (24, 24), batch=1)
    logits[:, 0] += logits.abs().max() * 2 + 1
    (slate,) = slates(SlateProposals(4, [LogitBias((60.0,)), UniformOffset()]), CARDIAC, logits)
    assert not slate.masks[0].any()
    assert slate.masks[1].any()


class Fixed:
    """Single pixels at given places, counting how many were asked for."""

    def __init__(self, family: str, places: list[int], weight: float) -> None:
        self.family = family
        self.places = places
        self.weight = weight
        self.made = 0

    def __call__(
        self, context: ProposalContext
    ) -> Iterator[tuple[dict[str, float | int | str], np.ndarray]]:
        for place in self.places:
            self.made += 1
            mask = np.zeros_like(context.anchor)
            mask.reshape(-1)[place] = 1
            yield {"place": place}, mask


def test_places_follow_the_weights_and_unfilled_ones_go_to_others() -> None:
    heavy = Fixed("heavy", list(range(20)), weight=2.0)
    light = Fixed("light", list(range(20, 40)), weight=1.0)
    short = Fixed("short", [50], weight=9.0)
    logits = torch.full((1, 1, 8, 8), -1.0)
    (slate,) = slates(
        SlateProposals(11, [heavy, light, short]), LabelSpace("multi-label", ("lung",)), logits
    )
    assert [one.family for one in slate.candidates] == [
        "anchor", "short", "heavy", "light", "heavy", "heavy", "light", "heavy", "heavy", "light",
        "heavy",
    ]  # fmt: skip
    assert heavy.made == 6
    assert light.made == 3


def test_repetitions_within_and_between_families_are_left_out() -> None:
    one = Fixed("one", [1, 1, 2], weight=1.0)
    two = Fixed("two", [1, 2, 3], weight=1.0)
    space = LabelSpace("multi-label", ("lung",))
    (slate,) = slates(SlateProposals(6, [one, two]), space, torch.full((1, 1, 3, 3), -1.0))
    places = [dict(candidate.settings).get("place") for candidate in slate.candidates]
    assert sorted(place for place in places[1:4] if place is not None) == [1, 2, 3]
    assert slate.candidates[4:] == slate.candidates[:2]
    np.testing.assert_array_equal(slate.masks[4:], slate.masks[:2])


def test_a_family_that_only_repeats_itself_is_given_up() -> None:
    endless = Fixed("endless", [1] * 1000, weight=1.0)
    space = LabelSpace("multi-label", ("lung",))
    (slate,) = slates(SlateProposals(4, [endless]), space, torch.full((1, 1, 3, 3), -1.0))
    assert distinct(slate) == 2
    assert endless.made < 50


def test_masks_with_equal_sums_of_words_are_still_told_apart() -> None:
    # Pixels 0 and 8 are the same byte of two words; pixel 24 lies beyond the last whole word.
    family = Fixed("shifted", [0, 8, 24], weight=1.0)
    space = LabelSpace("multi-label", ("lung",))
    (slate,) = slates(SlateProposals(4, [family]), space, torch.full((1, 1, 5, 5), -1.0))
    assert distinct(slate) == 4


def test_bfloat16_logits_are_welcome() -> None:
    logits = smooth(CARDIAC, (16, 16), batch=1).to(torch.bfloat16)
    (slate,) = slates(SlateProposals(16), CARDIAC, logits)
    np.testing.assert_array_equal(slate.masks[0], CARDIAC.decode(logits)[0].numpy())
    assert distinct(slate) == 16


def test_gradients_are_neither_needed_nor_built() -> None:
    logits = smooth(CARDIAC, (16, 16), batch=1).requires_grad_()
    network = Network(CARDIAC, logits)
    images = torch.zeros(1, 1, 16, 16)
    SlateProposals(8)(network, network.forward(images), images, [case(0, (16, 16))], 0)
    assert logits.grad is None


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(SegprefError, match="at least 2 candidates"):
        SlateProposals(1)
    with pytest.raises(SegprefError, match="at least one proposal family"):
        SlateProposals(8, [])
    twice = SlateProposals(8, [MonteCarloDropout(), MonteCarloDropout()])
    with pytest.raises(SegprefError, match="keep one MonteCarloDropout"):
        slates(twice, CARDIAC, smooth(CARDIAC, (8, 8)))
    with pytest.raises(SegprefError, match="patient000 has 3 voxel sizes for 2"):
        slates(SlateProposals(8), CARDIAC, smooth(CARDIAC, (8, 8)), spacing=(1.0, 1.0, 1.0))


def test_families_satisfy_the_protocol() -> None:
    for space in (CARDIAC, CHEST):
        assert all(isinstance(family, Proposal) for family in lean_families(space))
        assert all(isinstance(family, Proposal) for family in paper_families(space))


def test_what_is_exported_exists() -> None:
    assert len(proposals.__all__) == len(set(proposals.__all__))
    assert all(hasattr(proposals, name) for name in proposals.__all__)
