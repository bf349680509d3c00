"""From scores to Dice: against scikit-learn, by worked arithmetic, and how often intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segpref.inference import Calibration, Rising, threshold
from segpref.types import SegprefError


def of(scores: np.ndarray, dice: np.ndarray, coverage: float = 0.9) -> Calibration:
    patients = tuple(range(len(scores)))
    return Calibration(tuple(scores.tolist()), tuple(dice.tolist()), patients, coverage)


@pytest.mark.parametrize("seed", range(5))
def test_the_function_is_scikit_learns(seed: int) -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, 40) / 12  # many are equal
    dice = np.clip(scores + rng.normal(0, 0.2, 40), 0, 1)
    theirs = isotonic.IsotonicRegression(out_of_bounds="clip").fit(scores, dice)
    new = np.linspace(-0.2, 1.2, 50)
    assert np.allclose(Rising(scores, dice)(new), theirs.predict(new))


def test_violators_are_pooled() -> None:
    rising = Rising(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.1, 0.6, 0.2, 0.9]))
    # 0.6 and 0.2 become their mean; halfway between 0.1 and 0.4 lies 0.25.
    assert np.allclose(
        rising(np.array([-1, 0, 0.5, 1, 2, 3, 9])), [0.1, 0.1, 0.25, 0.4, 0.4, 0.9, 0.9]
    )


def test_equal_scores_count_as_often_as_they_are() -> None:
    rising = Rising(np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.9, 0.9, 0.9, 0.1]))
    assert np.allclose(rising(np.array([0.0, 1.0])), 0.7)


@pytest.mark.parametrize("each", [1, 3])
def test_the_interval_is_that_of_the_paper(each: int) -> None:
    """Jackknife+ of Barber et al., spelled out, without all masks of a patient."""
    rng = np.random.default_rng(3)
    scores, dice, patients = rng.uniform(size=19), rng.uniform(size=19), np.arange(19) // each
    new = np.array([0.3, 0.8])
    below, above = [], []
    for left in range(19):
        rest = patients != patients[left]
        function = Rising(scores[rest], dice[rest])
        residual = abs(dice[left] - function(scores[[left]])[0])
        below.append(function(new) - residual)
        above.append(function(new) + residual)
    known = Calibration(tuple(scores), tuple(dice), tuple(patients.tolist()), 0.8)
    low, high = known.interval(new)
    # 0.2 * 20 = 4 and 0.8 * 20 = 16, counted from 1.
    assert np.allclose(low, np.clip(np.sort(below, axis=0)[3], 0, 1))
    assert np.allclose(high, np.clip(np.sort(above, axis=0)[15], 0, 1))


def test_too_few_masks_leave_the_interval_open() -> None:
    scores = np.linspace(0, 1, 6)
    low, high = of(scores, scores).interval(np.array([0.5]))
    assert (low[0], high[0]) == (0, 1)


def test_a_patient_is_left_out_as_a_whole() -> None:
    """Two masks of a patient that agree with one another do not make the interval narrow."""
    rng = np.random.default_rng(0)
    dice = np.repeat(np.sort(rng.uniform(size=20)), 2)
    scores = np.repeat(np.linspace(0, 1, 20), 2) + np.tile([0, 1e-6], 20)
    alone = of(scores, dice).interval(np.array([0.5]))
    patients = tuple(np.repeat(range(20), 2).tolist())
    together = Calibration(tuple(scores), tuple(dice), patients).interval(np.array([0.5]))
    assert alone[1][0] - alone[0][0] < 1e-3
    assert together[1][0] - together[0][0] > 0.05


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_intervals_hold_as_often_as_promised(coverage: float) -> None:
    """Over new exchangeable masks; the theorem promises 1 - 2a, and far more would say nothing."""
    rng = np.random.default_rng(1)
    held, widths = [], []
    for _ in range(60):
        scores = rng.uniform(size=60)
        dice = np.clip(scores**2 + rng.normal(0, 0.1, 60), 0, 1)
        low, high = of(scores[:40], dice[:40], coverage).interval(scores[40:])
        held += ((low <= dice[40:]) & (dice[40:] <= high)).tolist()
        widths += (high - low).tolist()
    assert coverage - 0.03 < np.mean(held) < coverage + 0.07
    assert np.mean(widths) < 0.5


def test_what_the_judge_does_not_score_is_unknown() -> None:
    scores = np.array([0.1, 0.2, np.nan, 0.4, 0.5, 0.6])
    dice = np.array([0.1, 0.2, 0.9, 0.4, 0.5, 0.6])
    known = of(scores, dice)
    assert known.predicted(np.array([np.nan, 0.2])).tolist() == pytest.approx(
        [np.nan, 0.2], nan_ok=True
    )
    assert all(
        np.isnan(end[0]) and not np.isnan(end[1]) for end in known.interval(np.array([np.nan, 0.2]))
    )
    fewer = of(scores[:5], dice[:5])
    assert not fewer.known
    assert np.isnan(fewer.predicted(np.array([0.2]))).all()
    assert np.isnan(fewer.interval(np.array([0.2]))[0]).all()


def test_masks_of_one_patient_teach_nothing() -> None:
    known = Calibration((0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.4, 0.5), (0, 0, 0, 0, 0))
    assert not known.known


def test_thresholds_are_split_conformal() -> None:
    values = [float(value) for value in range(1, 20)]
    assert threshold(values, 0.1) == 18  # 0.9 * 20
    assert threshold(values, 0.05) == 19
    assert threshold(values, 0.01) == 19  # too few: the largest
    assert threshold(values[:10], 0.25) == 9  # 8.25, rounded up
    assert threshold([math.nan, 2.0], 0.5) == 2
    assert math.isnan(threshold([], 0.1))
    with pytest.raises(SegprefError, match="a share lies between 0 and 1"):
        threshold(values, 1.0)


def test_few_ordinary_values_are_above_a_threshold() -> None:
    rng = np.random.default_rng(2)
    above = [
        float(rng.normal() > threshold(rng.normal(size=39).tolist(), 0.05)) for _ in range(2000)
    ]
    assert 0.03 < np.mean(above) < 0.07
