"""Simulated raters answer as their habits say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from benchmarks.votes.raters import RATERS, Habits, answer, chance_right


def test_agreement_is_the_share_of_common_variance() -> None:
    """Views of two raters of many masks correlate as they should."""
    habits = Habits(agreement=0.785, lapse=0.0)
    rng = np.random.default_rng(0)
    quality = rng.normal(size=40_000)
    views = quality + rng.normal(0, habits.noise, (2, len(quality)))
    assert np.corrcoef(views)[0, 1] == pytest.approx(0.785, abs=0.01)


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.5])
def test_the_better_mask_is_chosen_as_often_as_the_model_says(gap: float) -> None:
    habits = Habits(agreement=0.67, lapse=0.04, cant_tell=0.0)
    rng = np.random.default_rng(1)
    # Quality in units of 0.1.
    said = Counter(answer(habits, 0.5 + 0.1 * gap, 0.5, 0.1, rng) for _ in range(6000))
    share = said["left"] / (said["left"] + said["right"])
    assert share == pytest.approx(chance_right(habits, gap), abs=0.02)
    assert chance_right(habits, 0) == pytest.approx(0.5)


def test_a_lapse_may_lean_to_the_left() -> None:
    habits = Habits(agreement=0.9, lapse=1.0, left=0.8, cant_tell=0.25)
    rng = np.random.default_rng(2)
    said = Counter(answer(habits, 0.0, 1.0, 0.1, rng) for _ in range(4000))
    assert said["cant-tell"] / 4000 == pytest.approx(0.25, abs=0.02)
    assert said["left"] / (said["left"] + said["right"]) == pytest.approx(0.8, abs=0.02)


def test_equal_views_are_ties() -> None:
    habits = Habits(agreement=0.999999, lapse=0.0, tie_within=0.1, cant_tell=0.0)
    rng = np.random.default_rng(3)
    assert {answer(habits, 0.5, 0.5, 0.1, rng) for _ in range(20)} == {"tie"}
    assert {answer(habits, 0.5, 0.6, 0.1, rng) for _ in range(20)} == {"right"}


def test_raters_of_the_protocol_differ_in_care() -> None:
    chances = [chance_right(one, 1.0) for one in RATERS.values()]
    assert chances == sorted(chances, reverse=True)
