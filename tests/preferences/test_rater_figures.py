"""Figures of raters: worked by hand, and a simulated rater with a bias is found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from segpref.preferences import (
    Rating,
    between_raters,
    gold_accuracy,
    repeats,
    side_share,
    vote_times,
)


def _rating(question: str, rater: str, answer: int | str, **others: object) -> Rating:
    told = {"question": question, "case": question, "patient": question, "rater": rater}
    return Rating(**told, answer=answer, **others)  # type: ignore[arg-type]


def test_a_rater_who_mostly_chooses_left() -> None:
    """Sides by chance, 70 % of answers to the left: 0.5 lies outside of the exact interval."""
    rng = np.random.default_rng(0)
    ratings = []
    for number in range(400):
        shown = tuple(rng.permutation(2).tolist())
        place = int(rng.random() >= 0.7)
        ratings.append(_rating(f"q{number}", "a", shown[place], shown=shown))
    found = side_share([*ratings, _rating("q", "a", "tie")])
    assert found.count == 400
    assert found.low < 0.7 < found.high
    assert found.low > 0.6


def test_the_exact_interval_is_that_of_clopper_and_pearson() -> None:
    """None of 10: from 0 to 1 - .025 ** (1 / 10)."""
    found = side_share([_rating(f"q{n}", "a", 1) for n in range(10)])
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_four_options_and_one_have_no_sides() -> None:
    four = _rating("q", "a", 2, options=4, shown=(3, 2, 1, 0))
    assert four.place == 1
    assert side_share([four]).count == 0
    assert _rating("q", "a", 0, shown=()).place is None
    assert math.isnan(side_share([]).value)


def test_known_answers() -> None:
    ratings = [_rating(f"q{n}", "a", int(n < 6), right=1) for n in range(8)]
    undecided = [_rating("t", "a", "tie", right=1), _rating("u", "a", 1)]
    found = gold_accuracy([*ratings, *undecided])
    assert (found.value, found.count) == (0.75, 8)


def test_repeats_are_set_beside_the_first_answer() -> None:
    first = [_rating(f"q{n}", "a", n % 2) for n in range(10)]
    again = [_rating(f"q{n}", "a", n % 2 if n else 1, repeat=True) for n in range(10)]
    found = repeats([*first, *again])
    assert (found.same.value, found.same.count) == (0.9, 10)
    assert found.kappa.value == pytest.approx((0.9 - 0.5) / 0.5)
    # Of 10 that are all the same nobody knows that all will be: 0.025 ** (1 / 10).
    alike = repeats([*first, *(replace(one, repeat=True) for one in first)]).same
    assert (alike.value, alike.high) == (1, 1)
    assert alike.low == pytest.approx(0.025**0.1)
    # A repeat whose first answer was taken back has nothing to be compared with.
    assert repeats([_rating("q", "a", 0, repeat=True)]).same.count == 0


def test_between_raters_counts_shared_questions_alone() -> None:
    answers = {"a": (0, 0, 1, 1, "tie"), "b": (0, 1, 1, 1, 0), "c": (0, 0, 1, "tie", "tie")}
    ratings = [
        _rating(f"q{n}", rater, one)
        for rater, given in answers.items()
        for n, one in enumerate(given)
    ]
    alone = [_rating("alone", "a", 1), _rating("q0", "a", 1, repeat=True)]
    found = between_raters([*ratings, *alone])
    assert found.alpha.count == found.ordinal.count == found.fleiss.count == 5
    assert found.fleiss_raters == 3
    assert set(found.cohen) == {("a", "b"), ("a", "c"), ("b", "c")}
    # a and b agree in 3 of 5; by chance in 2/5 2/5 + 2/5 3/5 + 1/5 0.
    assert found.cohen["a", "b"].value == pytest.approx((0.6 - 0.4) / (1 - 0.4))
    # A tie lies between first and second, so being one step apart counts less.
    assert found.ordinal.value > found.alpha.value


def test_of_one_rater_nothing_is_said_about_others() -> None:
    found = between_raters([_rating("q", "a", 0)])
    assert not found.alpha.known
    assert found.cohen == {}


def test_times() -> None:
    ratings = [_rating(f"q{n}", "a", 0, seconds=float(n)) for n in range(5)]
    found = vote_times([*ratings, _rating("q", "a", 0)])
    assert (found.median, found.lower, found.upper) == (2.0, 1.0, 3.0)
    assert (found.too_fast, found.count) == (1, 5)
    assert vote_times([]).count == 0
