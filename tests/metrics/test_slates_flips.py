"""Flip rates of random pairs, against pairs counted one by one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpref.metrics import disagreement_fractions, flip_curves, mined_flips
from segpref.types import IGNORE, Pairs, SegprefError


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def rows(*masks: str) -> np.ndarray:
    return np.array([[[int(value) for value in mask]] for mask in masks], np.uint8)


def test_worked_example() -> None:
    scores = [column(0.9, 0.5, 0.1, 0.5)]
    qualities = [column(0.6, 0.8, 0.2, 0.7)]
    masks = [rows("11110000", "11111000", "00000000", "11000000")]
    found = flip_curves(scores, qualities, masks, seed=0, bins=2)
    # Pairs (first > second): 0-1 wrong, 0-2 right, 0-3 wrong, 1-2 right, 3-2 right; 1-3 not told apart.
    assert found.pairs == 5
    assert found.flip_rate == pytest.approx(2 / 5)
    # Gaps: .4, .8, .4, .4 and .4, equal but for rounding.
    assert sum(part.count for part in found.by_gap) == 5
    assert found.by_gap[0].low == pytest.approx(0.4)
    assert found.by_gap[-1].high == pytest.approx(0.8)
    small, large = found.by_disagreement
    # |R| is 1, 4, 2, 5 and 2 of 8; the median is 2.
    assert (small.low, small.high, small.count) == (1 / 8, 1 / 8, 1)
    assert (large.low, large.high, large.count) == (2 / 8, 5 / 8, 4)
    assert small.flip_rate == 1
    assert small.true_gap == pytest.approx(-0.2)
    assert large.flip_rate == pytest.approx(1 / 4)
    assert large.true_gap == pytest.approx((0.4 - 0.1 + 0.6 + 0.5) / 4)


def test_equally_good_pairs_and_silent_fields_are_left_out() -> None:
    scores = [
        np.array([[0.1, 0.0, np.nan], [0.2, 0.0, np.nan], [np.nan, 0.0, 0.3]]),
        np.array([[0.1, 0.5, 0.5], [0.2, 0.5, 0.6], [0.3, 0.5, 0.7]]),
    ]
    qualities = [np.zeros((3, 3)), np.array([[0.1, 0.1, 0.2], [0.2, 0.1, 0.2], [0.1, 0.9, 0.2]])]
    masks = [np.zeros((3, 3, 4), np.uint8)] * 2
    found = flip_curves(scores, qualities, masks, seed=0)
    # Only field 0 of the second slate: 1 against 0 is right, 2 against 1 wrong, 2 against 0 equal.
    assert (found.pairs, found.flip_rate) == (2, 0.5)
    (only,) = found.by_disagreement
    assert (only.low, only.high, only.count) == (0, 0, 2)


def test_nothing_to_tell() -> None:
    found = flip_curves([column(0.5, 0.5)], [column(0.1, 0.2)], [rows("01", "11")], seed=0)
    assert np.isnan(found.flip_rate)
    assert (found.pairs, found.by_gap, found.by_disagreement) == (0, (), ())


@given(seed=st.integers(0, 2**31), bins=st.integers(1, 5))
def test_all_pairs_one_by_one(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    # Eighths are exact, so that equal gaps are equal.
    scores = [rng.integers(0, 9, (7, 2)) / 8 for _ in range(3)]
    scores[0][2, 1] = np.nan
    qualities = [rng.integers(0, 9, (7, 2)) / 8 for _ in range(3)]
    masks = [rng.integers(0, 3, (7, 2, 5, 9)).astype(np.uint8) for _ in range(3)]
    expected = []
    for said, true, mask in zip(scores, qualities, masks, strict=True):
        for field, (i, j) in ((f, p) for f in range(2) for p in combinations(range(7), 2)):
            gap = said[i, field] - said[j, field]
            gain = true[i, field] - true[j, field]
            if abs(gap) > 0.01 and abs(gain) > 0.01:
                expected.append(
                    (abs(gap), gain * np.sign(gap), np.mean(mask[i, field] != mask[j, field]))
                )
    gap, gain, region = np.array(expected).T
    found = flip_curves(scores, qualities, masks, seed=0, bins=bins)
    assert found.pairs == len(expected)
    assert found.flip_rate == pytest.approx(np.mean(gain < 0))
    for curve, size in ((found.by_gap, gap), (found.by_disagreement, region)):
        assert sum(part.count for part in curve) == len(expected)
        assert len(curve) <= bins
        for part, after in zip(curve, (*curve[1:], None), strict=True):
            inside = (size >= part.low) & (size <= part.high)
            assert inside.sum() == part.count
            assert after is None or part.high < after.low
            assert part.true_gap == pytest.approx(gain[inside].mean())
            assert part.flip_rate == pytest.approx((gain[inside] < 0).mean())


def test_flips_of_a_noisy_judge_shrink_with_the_gap() -> None:
    rng = np.random.default_rng(0)
    qualities = [rng.random((24, 1)) for _ in range(40)]
    scores = [quality + 0.1 * rng.standard_normal(quality.shape) for quality in qualities]
    masks = [np.zeros((24, 1, 4), np.uint8)] * 40
    found = flip_curves(scores, qualities, masks, seed=0)
    rates = [part.flip_rate for part in found.by_gap]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.3
    assert rates[-1] < 0.01
    assert all(part.count == pytest.approx(found.pairs / 8, abs=2) for part in found.by_gap)


def test_a_sample_of_the_pairs() -> None:
    rng = np.random.default_rng(1)
    scores, qualities = [rng.random((40, 2))], [rng.random((40, 2))]
    masks = [rng.integers(0, 2, (40, 2, 8)).astype(np.uint8)]
    whole = flip_curves(scores, qualities, masks, seed=0, pairs_per_slate=10_000)
    assert whole.pairs == 2 * 40 * 39 // 2
    some = flip_curves(scores, qualities, masks, seed=0, pairs_per_slate=100)
    assert some.pairs == 200
    assert some == flip_curves(scores, qualities, masks, seed=0, pairs_per_slate=100)
    assert some != flip_curves(scores, qualities, masks, seed=1, pairs_per_slate=100)
    assert some.flip_rate == pytest.approx(whole.flip_rate, abs=0.12)


@given(seed=st.integers(0, 2**31), values=st.integers(2, 9), pixels=st.integers(1, 150))
def test_fractions_of_pixels(seed: int, values: int, pixels: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, values, (5, pixels)).astype(np.uint8)
    first, second = np.triu_indices(5, 1)
    expected = (masks[first] != masks[second]).mean(1)
    np.testing.assert_allclose(disagreement_fractions(masks, first, second), expected)
    masks[rng.random(masks.shape) < 0.2] = IGNORE
    known = (masks[first] != IGNORE) & (masks[second] != IGNORE)
    expected = ((masks[first] != masks[second]) & known).sum(1) / np.maximum(known.sum(1), 1)
    found = disagreement_fractions(masks, first, second)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_array_equal(
        found, disagreement_fractions(masks.reshape(5, 1, pixels), second, first)
    )


def test_slates_that_do_not_belong_together() -> None:
    with pytest.raises(SegprefError, match="same slates"):
        flip_curves([column(0.1, 0.2)], [column(0.1, 0.2)], [rows("01")], seed=0)


def test_flips_of_mined_pairs_by_hand() -> None:
    qualities = [column(0.6, 0.8, 0.2), column(0.5, 0.5, 0.9)]

    def pairs(*rows: tuple[int, int, int, float]) -> Pairs:
        case, winner, loser, gap = (np.array(one) for one in zip(*rows, strict=True))
        return Pairs(case, np.zeros_like(case), winner, loser, gap.astype(float))

    # Right, wrong, wrong; the pair of equals is left out.
    once = pairs((0, 0, 2, 0.4), (1, 0, 2, 0.1))
    again = pairs((0, 0, 1, 0.2), (1, 0, 1, 0.3))
    (one,) = mined_flips(qualities, [once, again], bins=1)
    assert (one.low, one.high, one.count) == (0.1, 0.4, 3)
    assert one.flip_rate == pytest.approx(2 / 3)
    assert one.true_gap == pytest.approx((0.4 - 0.4 - 0.2) / 3)
    assert mined_flips(qualities, []) == ()
