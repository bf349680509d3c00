"""Judge diagnostics on slates small enough to be counted by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpref.metrics import diagnose, harmful_update_mass, score_state
from segpref.types import Pairs, SegprefError


def make_pairs(rows) -> Pairs:
    case, field, winner, loser = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return Pairs(case, field, winner, loser, np.ones(len(case)))


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_worked_example():
    scores = [column(0.5, 0.9, 0.1), column(0.2, 0.1, 0.8), column(0.9, 0.3, 0.2)]
    # The tops are worth .1 less than their anchors, .3 more, and as much (the anchor itself).
    qualities = [column(0.6, 0.5, 0.7), column(0.4, 0.1, 0.7), column(0.5, 0.6, 0.2)]
    pairs = make_pairs([(0, 0, 1, 2), (1, 0, 2, 1), (2, 0, 0, 2), (2, 0, 0, 1)])
    found = diagnose(scores, qualities, pairs)
    assert found.harm_top == pytest.approx(1 / 3)
    assert found.harm_mag == pytest.approx(0.1 / 3)
    assert found.headroom == pytest.approx((-0.1 + 0.3 + 0) / 3)
    assert found.regret == pytest.approx((0.2 + 0 + 0.1) / 3)
    assert found.pair_flip == pytest.approx(2 / 4)
    assert (found.slates, found.pairs) == (3, 4)
    # Concordant minus discordant pairs of 3: -3 of the first, 3, and 1.
    assert found.kendall == pytest.approx((-1 + 1 + 1 / 3) / 3)
    assert found.spearman == pytest.approx((-1 + 1 + 0.5) / 3)


def test_fields_count_one_by_one_and_silent_ones_are_left_out():
    nan = np.nan
    scores = [
        np.array([[0.0, 0.5, nan, 0.1], [0.0, 0.5, nan, 0.9]]),
        np.array([[0.3, nan, 0.2, 0.9], [0.9, 0.4, 0.8, 0.1]]),
    ]
    qualities = [
        np.array([[0.1, 0.1, 0.1, 0.4], [0.2, 0.2, 0.2, 0.6]]),
        np.array([[0.5, 0.5, nan, 0.5], [0.4, 0.5, 0.5, 0.6]]),
    ]
    found = diagnose(scores, qualities, make_pairs([(0, 3, 1, 0), (1, 2, 1, 0)]))
    assert found.skipped == {"zero": 1, "tied": 1, "abstained": 2, "unknown": 1}
    assert found.slates == 3
    assert found.headroom == pytest.approx((0.2 - 0.1 + 0) / 3)
    assert (found.pair_flip, found.pairs) == (0.0, 1)


def test_nothing_to_measure_gives_nan_and_counts():
    found = diagnose([column(0.5, 0.5)], [column(0.1, 0.2)], make_pairs([]))
    assert np.isnan([found.harm_top, found.regret, found.pair_flip, found.kendall]).all()
    assert (found.slates, found.pairs, found.skipped["tied"]) == (0, 0, 1)


def test_an_abstaining_judge_still_has_regret_over_the_whole_slate():
    found = diagnose([column(0.5, 0.6, np.nan)], [column(0.1, 0.2, 0.9)], make_pairs([]))
    assert found.regret == pytest.approx(0.7)
    assert found.kendall == pytest.approx(1.0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_a_judge_that_is_the_truth_does_no_harm(seed, k):
    quality = np.random.default_rng(seed).permutation(k)[:, None] / k
    rows = [
        (0, 0, int(quality.argmax()), loser) for loser in range(k) if quality[loser] < quality.max()
    ]
    found = diagnose([quality], [quality], make_pairs(rows))
    assert found.harm_top == found.harm_mag == found.regret == found.pair_flip == 0
    assert found.headroom == pytest.approx(quality.max() - quality[0, 0])
    assert found.kendall == pytest.approx(1)


@given(st.integers(0, 2**32 - 1))
def test_kendall_counts_concordant_pairs(seed):
    rng = np.random.default_rng(seed)
    said, true = rng.permutation(6).astype(float), rng.permutation(6).astype(float)
    signs = [
        np.sign((said[i] - said[j]) * (true[i] - true[j])) for i, j in combinations(range(6), 2)
    ]
    found = diagnose([said[:, None]], [true[:, None]], make_pairs([]))
    assert found.kendall == pytest.approx(np.mean(signs))


def test_harmful_update_mass():
    margin = np.array([0.2, -0.1, -0.3, 0.0])
    strength = np.array([1.0, 0.5, 0.2, 1.0])
    fraction = np.array([0.5, 0.1, 0.2, 0.5])
    found = harmful_update_mass(margin, strength, fraction)
    assert found.plain == pytest.approx((0.1 * 0.5 + 0.3 * 0.2) / 4)
    assert found.weighted == pytest.approx((0.1 * 0.5 * 0.1 + 0.3 * 0.2 * 0.2) / 4)
    none = harmful_update_mass(np.array([]), np.array([]), np.array([]))
    assert (none.plain, none.weighted) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([np.nan, np.nan], "abstained"),
        ([0.4, np.nan], "abstained"),
        ([0.0, 0.0, np.nan], "zero"),
        ([0.5, 0.50005], "tied"),
        ([0.5, 0.5002], "usable"),
        ([0.0, 1.0, np.nan], "usable"),
    ],
)
def test_opinion(scores, expected):
    assert score_state(np.array(scores)) == expected


def test_scores_of_other_slates_are_refused():
    with pytest.raises(SegprefError, match="same slates"):
        diagnose([column(0.5, 0.6)], [column(0.5)], make_pairs([]))
