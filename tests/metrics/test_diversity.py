"""Pairwise Dice and pixel variance of candidates."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpref.metrics import dice, overlap_counts, pairwise_dice, pixel_variance
from segpref.types import IGNORE, LabelSpace, Region, SegprefError

CLASSES = LabelSpace("multi-class", ("background", "a", "b"))
REGIONS = LabelSpace(
    "multi-class", CLASSES.names, (Region("whole", (1, 2)), Region("core", (2,)))
)  # fmt: skip
LABELS = LabelSpace("multi-label", ("a", "b"))


def test_pairwise_dice_by_hand() -> None:
    # Class 1: {0,1}, {0}, {}: Dice 2/3, 0, 0. Class 2: {}, {3}, {3}: 0, 0, 1.
    masks = np.array([[[1, 1, 0, 0]], [[1, 0, 0, 2]], [[0, 0, 0, 2]]], np.uint8)
    np.testing.assert_allclose(pairwise_dice(masks, CLASSES), [2 / 9, 1 / 3])
    # Whole: {0,1}, {0,3}, {3}: 2*1/4, 0, 2*1/3.
    np.testing.assert_allclose(pairwise_dice(masks, REGIONS), [(1 / 2 + 2 / 3) / 3, 1 / 3])


def test_a_structure_that_nobody_holds_is_left_out() -> None:
    masks = np.zeros((3, 2, 4), np.uint8)
    masks[:, 0, 1] = 1
    np.testing.assert_array_equal(pairwise_dice(masks, LABELS), [1.0, np.nan])
    with pytest.raises(SegprefError, match="at least 2 candidates"):
        pairwise_dice(masks[:1], LABELS)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.sampled_from([CLASSES, REGIONS, LABELS]))
def test_both_agree_with_slow_loops(seed: int, count: int, space: LabelSpace) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, space.values, (count, space.fields, 3, 4), dtype=np.uint8)
    held = np.stack([space.structure_masks(mask) for mask in masks])
    expected = [
        np.mean([2 * (a & b).sum() / max(1, a.sum() + b.sum()) if a.any() or b.any() else 1.0
                 for a, b in combinations(structure, 2)])
        if structure.any() else np.nan
        for structure in held.swapaxes(0, 1)
    ]  # fmt: skip
    np.testing.assert_allclose(pairwise_dice(masks, space), expected)
    np.testing.assert_allclose(pixel_variance(masks, space), held.astype(float).var(axis=0))


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.sampled_from([CLASSES, REGIONS, LABELS]))
def test_ignored_pixels_are_left_out(seed: int, count: int, space: LabelSpace) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, space.values, (count, space.fields, 3, 4), dtype=np.uint8)
    masks[rng.random(masks.shape) < 0.3] = IGNORE
    held, expected = np.zeros(len(space.structures), bool), []
    for j, k in combinations(range(count), 2):
        both = np.where((masks[[j, k]] == IGNORE).any(axis=0), np.uint8(IGNORE), masks[[j, k]])
        counts = overlap_counts(both[[0]], both[1], space)
        expected.append(dice(counts)[0])
        held |= (counts.true + counts.predicted)[0] > 0
    found = pairwise_dice(masks, space)
    np.testing.assert_allclose(found, np.where(held, np.mean(expected, axis=0), np.nan))
    # Nor does the order of the candidates matter.
    np.testing.assert_allclose(pairwise_dice(masks[::-1], space), found)


def test_who_ignores_a_pixel_has_no_part_in_its_variance() -> None:
    masks = np.array([[[1, 1, IGNORE]], [[IGNORE, 0, IGNORE]], [[1, IGNORE, IGNORE]]], np.uint8)
    np.testing.assert_array_equal(pixel_variance(masks, CLASSES)[0], [0, 0.25, 0])


def test_variance_is_a_quarter_where_half_of_them_differ() -> None:
    masks = np.zeros((4, 1, 2, 2), np.uint8)
    masks[:2, 0, 0, 0] = 1
    masks[:, 0, 1, 1] = 2
    variance = pixel_variance(masks, CLASSES)
    np.testing.assert_array_equal(variance, [[[0.25, 0], [0, 0]], [[0, 0], [0, 0]]])
