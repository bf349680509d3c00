"""Scores of the study of ambiguous segmentations, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from segpref.studies.ambiguity.scores import by_patient, gain, ged_at, irregularity, trade


def disc(radius: float, side: int = 64) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side / 2
    return (x**2 + y**2 < radius**2).astype(np.uint8)


def test_a_disc_is_regular_and_a_star_is_not() -> None:
    y, x = np.mgrid[:64, :64] - 32
    star = (np.hypot(x, y) < 16 * (1 + 0.5 * np.cos(9 * np.arctan2(y, x)))).astype(np.uint8)
    plain, lobed, empty = irregularity(np.stack([disc(16), star, np.zeros_like(star)]))
    assert plain == pytest.approx(1, abs=0.05)
    assert lobed > 2
    assert np.isnan(empty)
    # Neither size nor turns of a right angle matter.
    assert irregularity(disc(24)) == pytest.approx(1, abs=0.05)
    assert irregularity(np.rot90(star)) == pytest.approx(lobed)


def test_the_perimeter_of_one_pixel() -> None:
    # Two changes in every direction that is straight, rows and columns; two in either diagonal.
    perimeter = np.pi / 8 * (4 + 4 / np.sqrt(2))
    one = np.zeros((3, 3), np.uint8)
    one[1, 1] = 1
    assert irregularity(one) == pytest.approx(perimeter**2 / (4 * np.pi))
    # The edge of the image is an outline, too.
    assert irregularity(np.ones((1, 1), np.uint8)) == pytest.approx(perimeter**2 / (4 * np.pi))


def test_patients_count_alike_and_unknown_images_not() -> None:
    values = np.array([1.0, 3.0, 5.0, np.nan])
    np.testing.assert_array_equal(by_patient(values, ["a", "a", "b", "c"]), [2, 5])


def test_a_gain_is_paired_over_patients() -> None:
    base = np.array([0.1, 0.5, 0.9])
    change = gain([base + 0.1, base + 0.3], [base, base], ["a", "b", "c"])
    assert (change.mean, change.low, change.high) == pytest.approx((0.2, 0.2, 0.2))


def test_the_price_at_equal_accuracy() -> None:
    # Halfway between the stops of the knob; a level beyond its ends is not reached.
    dice, ged = np.array([0.3, 0.4]), np.array([0.20, 0.30])
    assert ged_at(0.35, dice, ged) == pytest.approx(0.25)
    assert np.isnan(ged_at(0.5, dice, ged))
    patients = ["a", "b"]
    curve = np.repeat(dice[:, None], 2, 1), np.repeat(ged[:, None], 2, 1)
    other = np.full(2, 0.35), np.full(2, 0.28)
    found = trade(curve, other, patients)
    assert (found.mean, found.low, found.high) == pytest.approx((-0.03, -0.03, -0.03))
    beyond = trade(curve, (np.full(2, 0.5), np.full(2, 0.28)), patients)
    assert np.isnan([beyond.mean, beyond.low]).all()
