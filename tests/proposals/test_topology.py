"""Hole filling and components: worked masks, SciPy, invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import measure

from segpref.proposals import (
    HoleFilling,
    LabelMap,
    LargestComponent,
    ProposalContext,
    clean,
    fill_holes,
    keep_components,
)
from segpref.types import LabelSpace

CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))


def field(text: str, values: int = 4) -> LabelMap:
    rows = [[int(digit) for digit in row] for row in text.split()]
    return LabelMap(np.array(rows, np.uint8), values, (1.0, 1.0))


def drawn(field: LabelMap) -> str:
    return " ".join("".join(map(str, row)) for row in field.labels)


def context(anchor: np.ndarray, space: LabelSpace) -> ProposalContext:
    return ProposalContext(np.zeros((space.channels, *anchor.shape[1:]), np.float32), anchor, space)


def masks(shape: tuple[int, ...], values: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.uint8, shape, elements=st.integers(0, values - 1))


def test_a_hole_is_filled_up_to_the_limits() -> None:
    ring = field("00000 01110 01010 01110 00000")
    closed = "00000 01110 01110 01110 00000"
    assert drawn(fill_holes(ring)) == closed
    assert drawn(fill_holes(ring, relative=1 / 8)) == closed
    assert fill_holes(ring, relative=0.12) is ring
    assert drawn(fill_holes(ring, cap=1 / 25)) == closed
    assert fill_holes(ring, cap=0.03) is ring


def test_a_bay_and_a_diagonal_opening() -> None:
    bay = field("0000 1110 1010 1010")
    assert fill_holes(bay) is bay
    diagonal = field("00000 01100 01010 01110 00000")
    assert drawn(fill_holes(diagonal)) == "00000 01100 01110 01110 00000"


def test_filling_takes_only_background() -> None:
    # The ventricle (3) inside the ring (2) stays; the gap between the two becomes ring.
    gap = field("22222 20002 20302 20002 22222")
    assert drawn(fill_holes(gap)) == "22222 22222 22322 22222 22222"


def test_four_pixels_enclose_one() -> None:
    assert drawn(fill_holes(field("01000 10100 01002"))) == "01000 11100 01002"


def test_the_innermost_structure_owns_a_hole() -> None:
    nested = field("2222222 2333332 2300032 2333332 2222222")
    assert drawn(fill_holes(nested)) == "2222222 2333332 2333332 2333332 2222222"


def test_a_hole_between_two_structures_belongs_to_neither() -> None:
    shared = field("1122 1002 1122")
    assert fill_holes(shared) is shared


def test_the_largest_component_is_kept_and_the_rest_becomes_background() -> None:
    parts = field("110010 110001 000000 220200")
    assert drawn(keep_components(parts)) == "110000 110000 000000 220000"
    assert drawn(keep_components(parts, fraction=0.5)) == drawn(parts)
    assert drawn(keep_components(parts, only=2)) == "110010 110001 000000 220000"


def test_what_was_kept_before_is_not_made_again() -> None:
    labels = field("1100100222")
    assert keep_components(labels) is keep_components(labels, 1.0, None)
    assert keep_components(labels) is not keep_components(labels, 0.1)
    assert keep_components(labels, only=2) is labels


def test_of_equal_components_the_first_is_kept() -> None:
    assert drawn(keep_components(field("1100011", 2))) == "1100000"


def test_the_limit_counts_what_is_left_of_the_structure() -> None:
    # 8 pixels around a hole of 1, and 6 more elsewhere: after cleaning, the hole is 1/8 of it.
    labels = field("01110011 01010011 01110011 00000000", 2)
    assert drawn(clean(labels, relative=0.12, cap=1.0)) == "01110000 01010000 01110000 00000000"
    assert drawn(clean(labels, relative=0.125, cap=1.0)) == "01110000 01110000 01110000 00000000"


@settings(max_examples=150)
@given(st.one_of(masks((9, 12), 2), masks((5, 6, 4), 2)))
def test_filling_a_binary_structure_is_scipys(labels: np.ndarray) -> None:
    filled = fill_holes(LabelMap(labels, 2, (1.0,) * labels.ndim))
    np.testing.assert_array_equal(filled.labels, ndimage.binary_fill_holes(labels))


@settings(max_examples=150)
@given(masks((9, 12), 2), st.sampled_from([0.05, 0.1, 0.3]), st.sampled_from([0.01, 0.02, 1.0]))
def test_limited_filling_is_scipys_label(labels: np.ndarray, relative: float, cap: float) -> None:
    expected = labels.copy()
    parts, count = ndimage.label(ndimage.binary_fill_holes(labels) & (labels == 0))
    for part in range(1, count + 1):
        if (parts == part).sum() <= min(relative * labels.sum(), cap * labels.size):
            expected[parts == part] = 1
    filled = fill_holes(LabelMap(labels, 2, (1.0, 1.0)), relative, cap)
    np.testing.assert_array_equal(filled.labels, expected)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.one_of(masks((9, 12), 4), masks((5, 6, 4), 3)))
def test_cleaning_keeps_one_component_and_touches_nothing_else(labels: np.ndarray) -> None:
    original = LabelMap(labels, 4, (1.0,) * labels.ndim)
    kept = keep_components(original).labels
    assert np.all((kept == labels) | (kept == 0))
    for value in original.counts:
        parts = measure.label(labels == value, connectivity=labels.ndim)
        assert measure.label(kept == value, connectivity=labels.ndim).max() == 1
        assert (kept == value).sum() == np.bincount(parts.ravel())[1:].max()
    filled = fill_holes(original).labels
    assert np.all((filled == labels) | (labels == 0))


@settings(max_examples=60)
@given(masks((9, 12), 4))
def test_one_slice_of_a_volume_is_an_image(labels: np.ndarray) -> None:
    flat = clean(LabelMap(labels, 4, (1.0, 1.0)), math.inf, math.inf)
    solid = clean(LabelMap(labels[np.newaxis], 4, (5.0, 1.0, 1.0)), math.inf, math.inf)
    np.testing.assert_array_equal(solid.labels[0], flat.labels)


def test_what_small_structures_enclose_together_is_nobody_s_hole() -> None:
    labels = field("00000 00100 01010 00200 00000")
    assert labels.holes.owners.max() == 0
    np.testing.assert_array_equal(clean(labels, math.inf, math.inf).labels, labels.labels)


def test_candidates_of_hole_filling_name_their_limit() -> None:
    anchor = field("0000000 0111110 0101110 0111110 0110010 0111110 0000000").labels[np.newaxis]
    found = list(HoleFilling(relative=(0.05, 0.5), cap=1.0)(context(anchor, CARDIAC)))
    assert [dict(settings) for settings, _ in found] == [{"relative": 0.05}, {"relative": 0.5}]
    assert [mask.sum() - anchor.sum() for _, mask in found] == [1, 3]


def test_candidates_of_the_largest_component_go_from_all_to_one_structure() -> None:
    anchor = field("110010 110001 000000 220200").labels[np.newaxis]
    found = list(LargestComponent(fractions=(1.0, 0.5))(context(anchor, CARDIAC)))
    assert [dict(settings) for settings, _ in found] == [
        {"fraction": 1.0},
        {"fraction": 0.5},
        {"structure": "RV"},
        {"structure": "MYO"},
    ]
    assert [int(np.count_nonzero(anchor[0] != mask[0])) for _, mask in found] == [3, 0, 2, 1]


def test_structures_of_a_multi_label_mask_are_edited_independently() -> None:
    ring = field("00000 01110 01010 01110 00000").labels
    anchor = np.stack([ring, np.eye(5, dtype=np.uint8)])
    ((_, mask), *_) = HoleFilling((0.5,), cap=1.0)(context(anchor, CHEST))
    assert mask[0].sum() == 9
    np.testing.assert_array_equal(mask[1], anchor[1])


@pytest.mark.parametrize("family", [HoleFilling(), LargestComponent()])
def test_an_empty_anchor_gives_nothing(family: HoleFilling | LargestComponent) -> None:
    assert list(family(context(np.zeros((2, 4, 4), np.uint8), CHEST))) == []
