"""Miners: what each picks by hand, and what all must keep to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpref.preferences import Extremes, RandomPair, Threshold, TopVsBase, TopVsRandom, mine
from segpref.types import Miner, SegprefError

MINERS = [
    TopVsBase(),
    TopVsRandom(),
    TopVsRandom(count=3),
    Threshold(0.2),
    RandomPair(),
    RandomPair(count=3),
    Extremes(0.3),
]
SCORES = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.50005, 1.0, np.nan])),
    min_size=2,
    max_size=10,
).map(np.array)


def rows(miner: Miner, scores, seed: int = 0) -> list[list[int]]:
    return miner(np.array(scores, dtype=float), np.random.default_rng(seed)).tolist()


@pytest.mark.parametrize("miner", MINERS, ids=repr)
@given(SCORES, st.integers(0, 2**32 - 1))
def test_what_holds_for_every_miner(miner, scores, seed):
    found = miner(scores, np.random.default_rng(seed))
    again = miner(scores, np.random.default_rng(seed))
    assert isinstance(miner, Miner)
    assert found.dtype == np.int64
    assert found.shape[1:] == (2,)
    np.testing.assert_array_equal(found, again)
    assert len(np.unique(found, axis=0)) == len(found)
    gaps = scores[found[:, 0]] - scores[found[:, 1]]
    assert (gaps >= max(miner.min_gap, getattr(miner, "tau", 0)) - 1e-8).all()
    told = scores[~np.isnan(scores)]
    if len(told) == 0 or np.ptp(told) < miner.min_gap / 2:
        assert len(found) == 0
    elif isinstance(miner, TopVsRandom | RandomPair) and np.ptp(told) >= miner.min_gap:
        assert 1 <= len(found) <= miner.count
    if not isinstance(miner, RandomPair):
        assert (scores[found[:, 0]] == told.max(initial=0)).all()


def test_top_vs_base():
    assert rows(TopVsBase(), [0.3, 0.9, 0.5]) == [[1, 0]]
    assert rows(TopVsBase(), [0.9, 0.3]) == []
    assert rows(TopVsBase(), [0.9, 0.90005]) == []
    assert rows(TopVsBase(), [np.nan, 0.9, 0.3]) == []


def test_top_vs_random_draws_every_lower_candidate_alike():
    scores = [0.2, 0.9, 0.4, 0.9, 0.89995, np.nan, 0.1]
    drawn = [rows(TopVsRandom(), scores, seed)[0] for seed in range(300)]
    assert {winner for winner, _ in drawn} == {1}
    losers, counts = np.unique([loser for _, loser in drawn], return_counts=True)
    assert losers.tolist() == [0, 2, 6]
    assert counts.min() > 70


def test_threshold_takes_the_first_in_rank_that_is_far_enough_below():
    scores = [0.1, 0.6, 0.55, 0.5, 0.3]
    assert rows(Threshold(0.1), scores) == [[1, 3]]
    assert rows(Threshold(0.3), scores) == [[1, 4]]
    assert rows(Threshold(0.6), scores) == []
    assert rows(Threshold(0.1), [0.6, 0.5, 0.5]) == [[0, 1]]
    assert rows(Threshold(1e-9), [0.6, 0.59995, 0.5]) == [[0, 2]]


def test_random_pair_gives_every_better_candidate_a_turn_as_winner():
    drawn = [tuple(rows(RandomPair(), [0.1, 0.5, 0.9, np.nan], seed)[0]) for seed in range(300)]
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert pairs.tolist() == [[1, 0], [2, 0], [2, 1]]
    # The winner is drawn first: half of the pairs are 1 over 0, the others are shared.
    assert np.abs(counts / 300 - [1 / 2, 1 / 4, 1 / 4]).max() < 0.1


def test_extremes():
    assert rows(Extremes(0.3), [0.4, 0.9, 0.2, np.nan]) == [[1, 2]]
    assert rows(Extremes(0.8), [0.4, 0.9, 0.2]) == []


def test_ties_go_to_the_first_candidate():
    assert rows(TopVsBase(), [0.9, 0.9, 0.1]) == []
    assert rows(Extremes(0.1), [0.5, 0.9, 0.9, 0.1, 0.1]) == [[1, 3]]


def test_mine_collects_pairs_and_counts_what_gave_none():
    nan = np.nan
    scores = [
        np.array([[0.1, 0.0, nan, 0.9], [0.5, 0.0, nan, 0.9], [0.9, 0.0, nan, 0.9]]),
        np.array([[0.9, 0.2, 0.4, 0.1], [0.5, 0.7, nan, 0.3], [0.1, 0.9, nan, 0.5]]),
    ]
    found = mine(TopVsBase(), scores, [np.random.default_rng(seed) for seed in range(2)])
    assert found.pairs.case.tolist() == [0, 1, 1]
    assert found.pairs.field.tolist() == [0, 1, 3]
    assert found.pairs.winner.tolist() == [2, 2, 2]
    assert found.pairs.loser.tolist() == [0, 0, 0]
    np.testing.assert_allclose(found.pairs.gap, [0.8, 0.7, 0.4])
    assert found.fields == 8
    assert found.skipped == {"abstained": 2, "zero": 1, "tied": 1, "undecided": 1}


@given(st.lists(SCORES, min_size=1, max_size=4), st.sampled_from(MINERS))
def test_every_field_gives_a_pair_or_a_reason(columns, miner):
    scores = [column[:, None] for column in columns]
    rngs = [np.random.default_rng(seed) for seed in range(len(scores))]
    found = mine(miner, scores, rngs)
    with_pair = len(np.unique(found.pairs.case))
    assert with_pair + sum(found.skipped.values()) == found.fields == len(scores)
    assert (found.pairs.gap > 0).all()


def test_each_image_has_its_own_randomness():
    """What the other images of a batch are does not change an image's pairs."""
    rng = np.random.default_rng(1)
    scores = [rng.random((8, 2)) for _ in range(3)]
    together = mine(TopVsRandom(), scores, [np.random.default_rng(seed) for seed in range(3)]).pairs
    alone = mine(TopVsRandom(), scores[2:], [np.random.default_rng(2)]).pairs
    assert together.loser[together.case == 2].tolist() == alone.loser.tolist()


def test_judges_and_miners_that_break_the_contract_are_named():
    rng = [np.random.default_rng(0)]
    with pytest.raises(SegprefError, match="finite"):
        mine(TopVsBase(), [np.array([[0.1], [np.inf]])], rng)
    with pytest.raises(SegprefError, match="one per candidate and field"):
        mine(TopVsBase(), [np.array([0.1, 0.2])], rng)
    with pytest.raises(SegprefError, match="does not score above"):
        mine(lambda scores, rng: np.array([[0, 1]]), [np.array([[0.1], [0.2]])], rng)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Threshold(0.0),
        lambda: Extremes(-1.0),
        lambda: TopVsBase(0.0),
        lambda: TopVsRandom(0),
        lambda: RandomPair(count=-1),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(SegprefError, match="a miner's"):
        make()
