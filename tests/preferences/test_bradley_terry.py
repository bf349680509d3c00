"""Bradley-Terry with ties and sides: published fits, another library, recovery, separated data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segpref.preferences import Compared, bradley_terry
from segpref.types import SegprefError

TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")

HOME_GAMES = {
    "Milwaukee": ((4, 3), (4, 2), (4, 3), (6, 1), (4, 2), (6, 0)),
    "Detroit": ((3, 3), (4, 2), (4, 3), (6, 0), (6, 1), (4, 3)),
    "Toronto": ((2, 5), (4, 3), (2, 4), (4, 3), (4, 2), (6, 0)),
    "New York": ((3, 3), (5, 1), (2, 5), (4, 3), (4, 2), (6, 1)),
    "Boston": ((5, 1), (2, 5), (3, 3), (4, 2), (5, 2), (6, 0)),
    "Cleveland": ((2, 5), (3, 3), (3, 4), (4, 3), (4, 2), (2, 4)),
    "Baltimore": ((2, 5), (1, 5), (1, 6), (2, 4), (1, 6), (3, 4)),
}
"""Games won and lost at home against each other team, in the order of TEAMS: the American League's
eastern division in 1987, in Agresti, Categorical Data Analysis (the data set ``baseball`` of the R
package BradleyTerry2)."""

ABILITIES = {
    "Boston": 1.1438, "Cleveland": 0.7047, "Detroit": 1.4754, "Milwaukee": 1.6196, "New York": 1.2813,
    "Toronto": 1.3271, "Baltimore": 0.0,
}  # fmt: skip
"""Of that fit with a home advantage of 0.3023, as the manual of BradleyTerry2 prints it."""


def _games(sided: bool) -> list[Compared]:
    found = []
    for home, results in HOME_GAMES.items():
        others = [team for team in TEAMS if team != home]
        for away, (won, lost) in zip(others, results, strict=True):
            told = (("first", won), ("second", lost))
            for outcome, count in told:
                found += [Compared(home, away, outcome, f"{home}-{away}", sided)] * count  # type: ignore[arg-type]
    return found


def test_baseball_with_home_advantage() -> None:
    found = bradley_terry(_games(sided=True), resamples=0)
    assert found.side.value == pytest.approx(0.3023, abs=5e-5)
    lowest = found.strength["Baltimore"].value
    for team, ability in ABILITIES.items():
        assert found.strength[team].value - lowest == pytest.approx(ability, abs=1e-4)
    assert found.tie.value == 0.0
    assert found.statement == ""


PUDDINGS = (
    (1, 2, 19, 22, 16), (1, 3, 16, 19, 12), (2, 3, 19, 19, 10), (1, 4, 18, 23, 13), (2, 4, 23, 19, 9),
    (3, 4, 19, 20, 15), (1, 5, 13, 19, 18), (2, 5, 16, 20, 12), (3, 5, 16, 15, 17), (4, 5, 17, 14, 16),
    (1, 6, 18, 21, 12), (2, 6, 22, 20, 12), (3, 6, 13, 18, 10), (4, 6, 14, 19, 18), (5, 6, 11, 21, 12),
)  # fmt: skip
"""Brands i and j of chocolate pudding, how many preferred i, how many j, and how many neither.

Davidson, On extending the Bradley-Terry model to accommodate ties in paired comparison experiments
(1970), as in the data set ``pudding`` of the R package PlackettLuce.
"""


def test_puddings_with_ties() -> None:
    """Strengths that add up to 1, and the parameter of ties, as the manual of PlackettLuce prints
    them."""
    made = [
        Compared(str(i), str(j), outcome, "all", sided=False)  # type: ignore[arg-type]
        for i, j, *counts in PUDDINGS
        for outcome, count in zip(("first", "second", "tie"), counts, strict=True)
        for _ in range(count)
    ]
    found = bradley_terry(made, resamples=0)
    worth = np.exp([found.strength[str(i)].value for i in range(1, 7)])
    published = [0.1388005, 0.1729985, 0.1617420, 0.1653930, 0.1586805, 0.2023855]
    assert (worth / worth.sum()).tolist() == pytest.approx(published, abs=5e-5)
    # Between equals, 1 : 1 : v.
    assert 2 * found.tie.value / (1 - found.tie.value) == pytest.approx(0.7468147, abs=5e-5)


def test_without_ties_it_is_a_logistic_regression() -> None:
    sm = pytest.importorskip("statsmodels.api")
    games = _games(sided=False)
    design = np.zeros((len(games), len(TEAMS)))
    won = np.zeros(len(games))
    for row, one in enumerate(games):
        design[row, TEAMS.index(one.first)] += 1
        design[row, TEAMS.index(one.second)] -= 1
        won[row] = one.outcome == "first"
    expected = sm.GLM(won, design[:, :-1], family=sm.families.Binomial()).fit().params
    found = bradley_terry(games, resamples=0)
    lowest = found.strength[TEAMS[-1]].value
    assert [found.strength[t].value - lowest for t in TEAMS[:-1]] == pytest.approx(
        expected.tolist(), abs=1e-6
    )
    assert found.side.value == 0.0


def test_with_ties_the_counts_are_those_expected() -> None:
    """At the maximum, wins plus half the ties of each, left wins, and ties are as the model expects."""
    rng = np.random.default_rng(1)
    made = _simulated(rng, 400)
    found = bradley_terry(made, resamples=0)
    d = found.side.value
    t = found.tie.value
    v = t * 2 * math.cosh(d / 2) / (1 - t)
    expected: dict[str, float] = dict.fromkeys(found.strength, 0.0)
    seen = dict(expected)
    left = ties = seen_left = seen_ties = 0.0
    for one in made:
        a, b = found.strength[one.first].value, found.strength[one.second].value
        odds = np.array([math.exp(a + d / 2), math.exp(b - d / 2), v * math.exp((a + b) / 2)])
        first, second, tie = odds / odds.sum()
        expected[one.first] += first + tie / 2
        expected[one.second] += second + tie / 2
        left, ties = left + first - second, ties + tie
        result = {"first": (1, 0, 0), "second": (0, 1, 0), "tie": (0, 0, 1)}[one.outcome]
        seen[one.first] += result[0] + result[2] / 2
        seen[one.second] += result[1] + result[2] / 2
        seen_left, seen_ties = seen_left + result[0] - result[1], seen_ties + result[2]
    assert seen == pytest.approx(expected, abs=1e-5)
    assert (seen_left, seen_ties) == pytest.approx((left, ties), abs=1e-5)


STRENGTH = {"a": 0.8, "b": 0.1, "c": -0.9}


def _simulated(
    rng: np.random.Generator, count: int, side: float = 0.4, tie: float = 0.5
) -> list[Compared]:
    made = []
    for number in range(count):
        first, second = rng.choice(list(STRENGTH), 2, replace=False).tolist()
        a, b = STRENGTH[first], STRENGTH[second]
        odds = np.exp([a + side / 2, b - side / 2, math.log(tie) + (a + b) / 2])
        outcome = rng.choice(["first", "second", "tie"], p=odds / odds.sum()).item()
        made.append(Compared(first, second, outcome, f"p{number % 50}"))
    return made


@pytest.mark.slow
def test_strengths_and_side_are_recovered() -> None:
    """Intervals contain the truth about as often as they say."""
    inside = []
    for seed in range(10):
        found = bradley_terry(_simulated(np.random.default_rng(seed), 800), resamples=60)
        inside += [
            found.strength[n].low < true < found.strength[n].high for n, true in STRENGTH.items()
        ]
        inside.append(found.side.low < 0.4 < found.side.high)
        share = 0.5 / (0.5 + 2 * math.cosh(0.2))
        inside.append(found.tie.low < share < found.tie.high)
    assert np.mean(inside) > 0.8


def test_a_side_is_seen_in_comparisons_with_itself() -> None:
    same = [Compared("a", "a", o, f"p{n}") for n in range(10) for o in ("first", "first", "second")]  # type: ignore[arg-type]
    found = bradley_terry(same, resamples=20)
    assert found.side.value == pytest.approx(math.log(2))
    assert found.strength["a"].value == pytest.approx(0.0)
    unsided = [Compared(o.first, o.second, o.outcome, o.group, sided=False) for o in same]
    assert bradley_terry(unsided, resamples=0).side.value == 0.0


def test_separated_data_is_said_and_finite() -> None:
    always = [Compared("a", "b", "first", f"p{n}") for n in range(9)]
    always += [Compared("b", "a", "second", f"p{n}") for n in range(9)]
    found = bradley_terry(always, resamples=20)
    assert "no upper end" in found.statement
    assert 0.9 < found.chance("a", "b") < 1
    apart = [Compared(*pair, "first", "p") for pair in ("ab", "ba", "cd", "dc")]
    assert "fall into 2 groups" in bradley_terry(apart, resamples=0).statement
    left = [Compared(*pair, "first", f"p{n}") for n in range(5) for pair in ("ab", "ba")]
    found = bradley_terry(left, resamples=20)
    assert "All answers chose the left side" in found.statement
    assert 0 < found.side.value < 10
    assert found.chance("a", "b") == pytest.approx(0.5)
    ties = [Compared("a", "b", "tie", f"p{n}") for n in range(5)]
    found = bradley_terry(ties, resamples=20)
    assert found.statement == "All answers were ties."
    assert 0.5 < found.tie.value < 1


def test_nothing_compared_and_refusals() -> None:
    found = bradley_terry([])
    assert (found.statement, found.comparisons) == ("Nothing was compared.", 0)
    with pytest.raises(SegprefError, match="outcome is one of first, second, tie, not 'both-bad'"):
        bradley_terry([Compared("a", "b", "both-bad", "p")])  # type: ignore[arg-type]
