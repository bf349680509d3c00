"""Agreement coefficients against published examples and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segpref.preferences import cohen_kappa, fleiss_kappa, krippendorff_alpha
from segpref.types import SegprefError

_ = math.nan

KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
)
"""Four observers and twelve units with missing values: Krippendorff, Computing Krippendorff's
alpha-reliability (2011), section D; alpha is .743 nominal and .815 ordinal."""

FLEISS = np.array(
    [
        [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0],
        [2, 0, 4, 0, 0], [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6],
        [1, 0, 0, 5, 0], [1, 1, 0, 4, 0], [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1],
        [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0], [0, 2, 0, 4, 0], [1, 0, 2, 0, 3],
        [0, 0, 0, 0, 6], [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0], [1, 0, 0, 4, 1],
        [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0], [1, 0, 5, 0, 0], [0, 0, 0, 0, 6],
    ]
)  # fmt: skip
"""Thirty patients, six psychiatrists, five diagnoses: Fleiss, Measuring nominal scale agreement among
many raters (1971), Table 1; kappa is .430."""


def test_krippendorffs_example() -> None:
    assert krippendorff_alpha(KRIPPENDORFF).value == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(KRIPPENDORFF, "ordinal").value == pytest.approx(0.815, abs=5e-4)
    # The last unit has one value, which cannot agree with any other.
    assert krippendorff_alpha(KRIPPENDORFF).count == 11


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_that_of_another_library(level: str, seed: int) -> None:
    krippendorff = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 60)
    table = np.where(rng.random((5, 60)) < 0.7, truth, rng.integers(0, 4, (5, 60))).astype(float)
    table[rng.random(table.shape) < 0.4] = np.nan
    expected = krippendorff.alpha(reliability_data=table, level_of_measurement=level)
    assert krippendorff_alpha(table, level, resamples=0).value == pytest.approx(expected)  # type: ignore[arg-type]


def test_fleiss_example() -> None:
    found = fleiss_kappa(FLEISS)
    assert found.value == pytest.approx(0.430, abs=5e-4)
    assert found.low < 0.43 < found.high
    assert found.count == 30


@pytest.mark.parametrize("seed", range(3))
def test_fleiss_is_that_of_another_library(seed: int) -> None:
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    counts = np.random.default_rng(seed).multinomial(4, [0.5, 0.3, 0.2], size=40)
    expected = inter_rater.fleiss_kappa(counts)
    assert fleiss_kappa(counts, resamples=0).value == pytest.approx(expected)


def test_cohen_by_hand() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: .7 observed, .5 by chance, kappa .4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = cohen_kappa(first, second)
    assert found.value == pytest.approx(0.4)
    assert 0.1 < found.low < 0.4 < found.high < 0.65


@pytest.mark.parametrize("seed", range(3))
def test_cohen_is_that_of_another_library(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 3, 80)
    second = np.where(rng.random(80) < 0.6, first, rng.integers(0, 3, 80))
    found = cohen_kappa(first.tolist(), second.tolist(), resamples=0).value
    assert found == pytest.approx(metrics.cohen_kappa_score(first, second))


def test_the_interval_is_that_of_theory() -> None:
    """Fleiss, Cohen and Everitt (1969) give the standard error of kappa; the bootstrap's is close."""
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    table = np.array([[40, 9], [6, 45]])
    theory = inter_rater.cohens_kappa(table)
    units = [(a, b) for a in (0, 1) for b in (0, 1) for _ in range(table[a, b])]
    found = cohen_kappa(*zip(*units, strict=True), resamples=4000)
    assert found.value == pytest.approx(theory.kappa)
    assert found.low == pytest.approx(theory.kappa_low, abs=0.02)
    assert found.high == pytest.approx(theory.kappa_upp, abs=0.02)


def test_whole_groups_are_drawn() -> None:
    """Ten copies of each unit, drawn together, tell no more than the units: the same interval."""
    rng = np.random.default_rng(1)
    first = rng.integers(0, 2, 50)
    second = np.where(rng.random(50) < 0.8, first, 1 - first)
    alone = cohen_kappa(first.tolist(), second.tolist())
    names = np.repeat(np.arange(50), 10).tolist()
    copied = cohen_kappa(np.repeat(first, 10).tolist(), np.repeat(second, 10).tolist(), names)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_nothing_to_agree_on_is_not_a_number() -> None:
    assert not krippendorff_alpha(np.full((2, 3), np.nan)).known
    assert not krippendorff_alpha(np.ones((2, 3))).known
    assert not krippendorff_alpha(np.zeros((2, 0))).known
    assert not fleiss_kappa(np.zeros((0, 3))).known
    assert not fleiss_kappa(np.array([[2, 0], [2, 0]])).known
    assert not cohen_kappa([], []).known
    assert not cohen_kappa(["a"] * 4, ["a"] * 4).known
    assert math.isnan(cohen_kappa(["a", "b"], ["a", "b"], ["one", "one"]).low)


def test_refusals() -> None:
    with pytest.raises(SegprefError, match="equally many raters"):
        fleiss_kappa(np.array([[2, 0], [2, 1]]))
    with pytest.raises(SegprefError, match="two axes, not 1"):
        krippendorff_alpha(np.zeros(3))
    with pytest.raises(SegprefError, match="each of 2 units needs one value, and 1 were given"):
        cohen_kappa([1, 2], [1])
