"""Raters' flip rates: worked by hand, recovered from simulated raters, and bounded."""

from __future__ import annotations

import numpy as np
import pytest

from segpref.preferences import Rating, first_is_better, flip_rates, reliabilities
from segpref.types import SegprefError


def _one(question: int, rater: str, answer: int | str, **others: object) -> Rating:
    case = f"case{question % 40}"
    told = {"question": f"q{question}", "case": case, "patient": case, "rater": rater}
    return Rating(**told, answer=answer, **others)  # type: ignore[arg-type]


def _simulated(rates: dict[str, float], questions: int, gold: float, seed: int) -> list[Rating]:
    rng = np.random.default_rng(seed)
    ratings = []
    for number in range(questions):
        truth = int(rng.integers(2))
        right = truth if rng.random() < gold else None
        for rater, rate in rates.items():
            answer = truth if rng.random() >= rate else 1 - truth
            ratings.append(_one(number, rater, answer, right=right))
    return ratings


def test_of_an_unknown_rater_it_is_the_prior() -> None:
    assert flip_rates([_one(0, "a", "tie")])["a"] == pytest.approx(0.2)
    # A single answer to each question, none known: whatever is answered, nothing is learned.
    alone = [_one(n, "a", n % 2) for n in range(50)]
    assert flip_rates(alone, unknown=0.3)["a"] == pytest.approx(0.3, abs=1e-4)


def test_known_answers_are_counted() -> None:
    """Of 90 known answers 27 are wrong, beside a prior of 10 answers with 2 wrong: 29 of 100."""
    known = [_one(n, "a", int(n >= 27), right=1) for n in range(90)]
    assert flip_rates(known)["a"] == pytest.approx(0.29, abs=1e-4)


def test_worse_than_chance_is_one_half() -> None:
    wrong = [_one(n, "a", 0, right=1) for n in range(200)]
    rate = flip_rates(wrong, prior_votes=0.01)["a"]
    assert 0.49 < rate <= 0.5


RATES = {"careful": 0.05, "usual": 0.2, "tired": 0.35}


@pytest.mark.slow
@pytest.mark.parametrize("gold", [0.0, 0.1])
def test_it_recovers_raters_who_answer_the_same_questions(gold: float) -> None:
    """Ten studies: means near the truth, which intervals contain about as often as they say."""
    studies = [
        reliabilities(_simulated(RATES, 600, gold, seed), resamples=50) for seed in range(10)
    ]
    for name, rate in RATES.items():
        found = [one[name].flip_rate for one in studies]
        assert np.mean([one.value for one in found]) == pytest.approx(rate, abs=0.04)
        assert sum(one.low <= rate <= one.high for one in found) >= 6
        assert all(one.high - one.low < 0.15 for one in found)
        assert all(one[name].informative == 600 for one in studies)


def test_it_recovers_a_rater_from_repeats_and_few_known_answers() -> None:
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        ratings = []
        for number in range(600):
            truth = int(rng.integers(2))
            right = truth if rng.random() < 0.05 else None
            for repeat in range(1 + (rng.random() < 0.2)):
                answer = truth if rng.random() >= 0.2 else 1 - truth
                ratings.append(_one(number, "a", answer, right=right, repeat=bool(repeat)))
        found.append(flip_rates(ratings)["a"])
    assert np.mean(found) == pytest.approx(0.2, abs=0.02)
    assert np.std(found) < 0.05


def test_repeats_that_agree_make_a_rater_more_reliable() -> None:
    same = [_one(n, "a", 0) for n in range(60)] * 2
    other = [*[_one(n, "a", 0) for n in range(60)], *[_one(n, "a", 1) for n in range(60)]]
    assert flip_rates(same)["a"] < 0.1 < 0.45 < flip_rates(other)["a"]


def test_of_four_options_a_random_answer_is_right_at_times() -> None:
    """A rater who answers four options at random has a flip rate of one half, not of 3/4."""
    rng = np.random.default_rng(0)
    random = [_one(n, "a", int(rng.integers(4)), options=4, right=0) for n in range(2000)]
    assert flip_rates(random)["a"] == pytest.approx(0.5, abs=0.03)


def test_nothing_gives_nothing() -> None:
    assert flip_rates([]) == {} == reliabilities([])


def test_of_an_unknown_rater_the_interval_is_that_of_the_prior() -> None:
    """Ten answers, 2 of them wrong: Beta(2, 8) from .028 to .482, however many tell nothing."""
    for count in (1, 60):
        one = reliabilities([_one(n, "a", 1) for n in range(count)])["a"]
        assert one.informative == 0
        assert one.flip_rate.low == pytest.approx(0.0281, abs=1e-3)
        assert one.flip_rate.high == pytest.approx(0.4825, abs=1e-3)


def test_refusals() -> None:
    with pytest.raises(SegprefError, match=r"from 0 to 0\.5, not 0\.7"):
        flip_rates([], unknown=0.7)
    with pytest.raises(SegprefError, match="prior_votes is a number above 0"):
        flip_rates([], prior_votes=0)


def test_answers_of_several_raters_multiply_their_odds() -> None:
    assert first_is_better([], []) == 0.5
    assert first_is_better([True], [0.2]) == pytest.approx(0.8)
    assert first_is_better([True, False], [0.2, 0.2]) == pytest.approx(0.5)
    odds = (0.9 / 0.1) * (0.3 / 0.7)
    assert first_is_better([True, False], [0.1, 0.3]) == pytest.approx(odds / (1 + odds))
    assert first_is_better([True], [0.5]) == 0.5
    assert first_is_better([True] * 50, [0.0] * 50) < 1
