"""Simulated raters answer as their habits say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from benchmarks.votes.differences import by_patient, differences, means, plain
from benchmarks.votes.raters import FLAWLESS, RATERS, Habits, answer, best_of, chance_right


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


@pytest.mark.parametrize("gap", [0.0, 1.5])
def test_the_best_of_two_is_chosen_as_in_a_pair(gap: float) -> None:
    """Of several masks as many are viewed; two without ties are a pair, by Thurstone's formula."""
    habits = Habits(agreement=0.67, lapse=0.04, tie_within=0.0, cant_tell=0.0)
    rng = np.random.default_rng(4)
    said = Counter(best_of(habits, [0.5 + 0.1 * gap, 0.5], 0.1, rng) for _ in range(6000))
    assert set(said) == {"best-0", "best-1"}
    assert said["best-0"] / 6000 == pytest.approx(chance_right(habits, gap), abs=0.02)


def test_the_best_of_four_by_the_share_of_lapses() -> None:
    habits = Habits(agreement=0.999999, lapse=0.2, cant_tell=0.1)
    rng = np.random.default_rng(5)
    said = Counter(best_of(habits, [0.1, 0.2, 0.9, 0.3], 0.1, rng) for _ in range(6000))
    assert said["cant-tell"] / 6000 == pytest.approx(0.1, abs=0.02)
    assert said["best-2"] / 6000 == pytest.approx(0.9 * (0.8 + 0.2 / 4), abs=0.02)


def test_differences_are_paired_over_patients_with_seeds_inside() -> None:
    def rows(**of: float) -> list[dict[str, object]]:
        return [
            {"patient": patient, "volume": patient, "structure": "LV", "iou": score}
            for patient, score in of.items()
        ]

    scores = {
        "a": [rows(p=0.5, q=0.7), rows(p=0.6, q=0.6)],
        "b": [rows(p=0.4, q=0.7), rows(p=0.3, q=0.5)],
    }
    found = differences(scores, [("a", "b")], "iou")["a minus b"]
    # p gains 0.1 and 0.3, q 0 and 0.1.
    assert found["mean"] == pytest.approx((0.2 + 0.05) / 2)
    assert found["seeds"] == pytest.approx([0.05, 0.2])
    assert (found["seeds_better"], found["patients"]) == (2, 2)
    assert means(scores, "iou") == {"a": pytest.approx([0.6, 0.6]), "b": pytest.approx([0.55, 0.4])}
    assert by_patient(scores, "iou") == {
        "a": [{"p": 0.5, "q": 0.7}, {"p": 0.6, "q": 0.6}],
        "b": [{"p": 0.4, "q": 0.7}, {"p": 0.3, "q": 0.5}],
    }
    assert plain({"x": [float("nan"), 1.0]}) == {"x": [None, 1.0]}


def test_who_is_flawless_chooses_the_better_mask_by_however_little() -> None:
    (habits,) = FLAWLESS.values()
    rng = np.random.default_rng(6)
    assert {answer(habits, 0.5, 0.5001, 0.1, rng) for _ in range(50)} == {"right"}
    assert answer(habits, 0.5, 0.5, 0.1, rng) == "tie"
    assert {best_of(habits, [0.1, 0.2, 0.3, 0.2999], 0.1, rng) for _ in range(50)} == {"best-2"}
