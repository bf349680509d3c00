"""Area quantiles and logit biases against their definitions."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segpref.proposals import (
    AreaQuantile,
    LogitBias,
    ProposalContext,
    area_scaled,
    biased,
)
from segpref.types import LabelSpace, SegprefError

CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))

LOGITS = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).normal(0, 3, (4, 6, 7)).astype(np.float32)
)


def multi_class(logits: np.ndarray, seed: int = 0) -> ProposalContext:
    anchor = logits.argmax(axis=0).astype(np.uint8)[np.newaxis]
    return ProposalContext(logits, anchor, CARDIAC, rng=np.random.default_rng(seed))


def multi_label(logits: np.ndarray, seed: int = 0) -> ProposalContext:
    return ProposalContext(
        logits, (logits > 0).astype(np.uint8), CHEST, rng=np.random.default_rng(seed)
    )


def scaled(logit: np.ndarray, scale: float) -> np.ndarray:
    return area_scaled(multi_label(logit[np.newaxis]), 0, scale).labels


def test_area_quantile_by_hand() -> None:
    logit = np.array([[3.0, 1.0], [-1.0, -2.0]], np.float32)
    assert scaled(logit, 0.5).tolist() == [[1, 0], [0, 0]]
    assert scaled(logit, 1.0).tolist() == [[1, 1], [0, 0]]
    assert scaled(logit, 1.5).tolist() == [[1, 1], [1, 0]]
    assert scaled(logit, 9.0).tolist() == [[1, 1], [1, 1]]
    assert scaled(logit, 0.01).tolist() == [[1, 0], [0, 0]]


def test_ties_are_taken_together() -> None:
    logit = np.array([[2.0, 1.0, 1.0, -1.0]], np.float32)
    assert scaled(logit, 0.6).tolist() == [[1, 1, 1, 0]]


@settings(max_examples=100)
@given(LOGITS, st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_ranks_are_those_of_all_logits_sorted(logits: np.ndarray, ranks: list[int]) -> None:
    context = multi_label(logits)
    for output, logit in enumerate(logits):
        ordered = np.sort(logit, axis=None)[::-1]
        for rank in (min(rank, ordered.size) for rank in ranks):
            assert context.nth_highest(output, rank) == ordered[rank - 1]


@settings(max_examples=150)
@given(LOGITS, st.floats(0.1, 4.0))
def test_area_is_exact_and_confidence_order_is_kept(logits: np.ndarray, scale: float) -> None:
    logit = logits[0]
    count = int((logit > 0).sum())
    mask = scaled(logit, scale)
    if count == 0:
        assert not mask.any()
        return
    assert mask.sum() == min(max(1, round(scale * count)), logit.size)
    expected = np.zeros(logit.size, np.uint8)
    expected[np.argsort(logit, axis=None)[-int(mask.sum()) :]] = 1
    np.testing.assert_array_equal(mask, expected.reshape(logit.shape))


@pytest.mark.parametrize("bias", [-2.0, -1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("value", [None, 1, 2, 3])
def test_of_equal_biased_logits_the_lowest_class_wins(value: int | None, bias: float) -> None:
    logits = np.random.default_rng(0).integers(-2, 3, (4, 20, 20)).astype(np.float32)
    moved = logits.copy()
    moved[slice(1, None) if value is None else value] += bias
    np.testing.assert_array_equal(biased(multi_class(logits), value, bias)[0], moved.argmax(axis=0))


@settings(max_examples=150)
@given(LOGITS, st.sampled_from([None, 1, 2, 3]), st.floats(-6, 6, width=32))
def test_logit_bias_is_the_argmax_of_biased_logits(
    logits: np.ndarray, value: int | None, bias: float
) -> None:
    moved = logits.astype(np.float64)
    moved[slice(1, None) if value is None else value] += bias
    top = np.sort(moved, axis=0)
    clear = top[-1] - top[-2] > 1e-5
    mask = biased(multi_class(logits), value, bias)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask[0][clear], moved.argmax(axis=0)[clear])


@settings(max_examples=60)
@given(hnp.arrays(np.float32, (4, 3, 3), elements=st.integers(-2, 2).map(float)))
def test_of_equal_logits_the_lower_class_wins_as_in_the_anchor(logits: np.ndarray) -> None:
    context = multi_class(logits)
    np.testing.assert_array_equal(biased(context, None, 0.0), context.anchor)


def test_more_bias_more_foreground() -> None:
    context = multi_class(np.random.default_rng(0).normal(size=(4, 20, 20)).astype(np.float32))
    areas = [np.count_nonzero(biased(context, None, bias)) for bias in (-2, -1, 0, 1, 2)]
    assert areas == sorted(areas)
    assert areas[0] < areas[2] < areas[4]


def test_candidates_of_the_logit_bias_differ_in_target_and_size_from_the_start() -> None:
    context = multi_class(np.random.default_rng(0).normal(size=(4, 9, 9)).astype(np.float32))
    found = [dict(settings) for settings, _ in islice(LogitBias((1.0, 2.0))(context), 18)]
    assert found[:4] == [
        {"structure": "foreground", "bias": 1.0},
        {"structure": "foreground", "bias": -1.0},
        {"structure": "RV", "bias": 2.0},
        {"structure": "RV", "bias": -2.0},
    ]
    assert len({tuple(one.items()) for one in found}) == 18
    assert all(abs(one["bias"]) <= 2.0 for one in found)


def test_candidates_of_the_area_quantile_go_on_at_random_between_the_extremes() -> None:
    context = multi_label(np.random.default_rng(0).normal(size=(2, 9, 9)).astype(np.float32))
    found = list(islice(AreaQuantile((0.5, 2.0))(context), 8))
    scales = [settings["scale"] for settings, _ in found]
    assert scales[:2] == [0.5, 2.0]
    assert all(0.5 <= scale <= 2.0 for scale in scales)
    for scale, (_, mask) in zip(scales, found, strict=True):
        expected = [min(81, round(scale * int(part.sum()))) for part in context.anchor]
        assert [int(part.sum()) for part in mask] == expected


def test_families_leave_the_other_label_space_and_empty_anchors_alone() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 5, 5)).astype(np.float32)
    assert list(AreaQuantile()(multi_class(logits))) == []
    assert list(LogitBias()(multi_label(logits[:2]))) == []
    assert list(AreaQuantile()(multi_label(-np.abs(logits[:2]) - 1))) == []


def test_one_empty_structure_stays_empty() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 5, 5)).astype(np.float32)
    logits[1] = -1
    ((_, mask), *_) = islice(AreaQuantile((2.0,))(multi_label(logits)), 1)
    assert mask[0].any()
    assert not mask[1].any()


@pytest.mark.parametrize("make", [lambda: AreaQuantile(()), lambda: LogitBias((0.0,))])
def test_settings_without_sense_are_refused(make: object) -> None:
    with pytest.raises(SegprefError, match="above 0"):
        make()  # type: ignore[operator]
