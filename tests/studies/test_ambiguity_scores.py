"""Scores of the study of ambiguous segmentations, worked by hand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from segpref.studies.ambiguity import (
    SAME_SIZE,
    Findings,
    SampleSet,
    gain,
    ged_at,
    irregularity,
    mean_over_images,
    pairs_of_a_size,
    price,
    trade,
)


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


def test_masks_of_a_size_are_matched_one_to_one() -> None:
    # 109 has a partner in 100 or 119, 91 only in 100: two pairs are more than the closest one.
    ours, theirs = pairs_of_a_size(np.array([0.0, 109, 91, 500]), np.array([119.0, 100, 0, 700]))
    assert dict(zip(ours, theirs, strict=True)) == {1: 0, 2: 1}
    ours, theirs = pairs_of_a_size(np.array([0.0, 3]), np.array([0.0, 0]))
    assert (len(ours), len(theirs)) == (0, 0)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=5),
    st.lists(st.integers(0, 30), min_size=1, max_size=5),
)
def test_no_matching_has_more_pairs_of_a_size(ours: list[int], theirs: list[int]) -> None:
    def fits(a: int, b: int) -> bool:
        return a > 0 and b > 0 and max(a, b) / min(a, b) <= 1 + SAME_SIZE

    few, many = sorted((ours, theirs), key=len)
    most = max(sum(map(fits, few, chosen)) for chosen in itertools.permutations(many, len(few)))
    mine, other = pairs_of_a_size(np.array(ours, float), np.array(theirs, float))
    assert len(mine) == most == len(set(mine.tolist())) == len(set(other.tolist()))
    assert all(fits(ours[a], theirs[b]) for a, b in zip(mine, other, strict=True))


def test_images_count_alike_and_unknown_ones_not() -> None:
    values = np.array([1.0, 3.0, 8.0, np.nan])
    found = mean_over_images(values, ["a", "a", "b", "c"])
    assert found.mean == 4
    # Patients are drawn with all their images: one of them twice gives 2 or 8, both give 4.
    assert (found.low, found.high) == (2, 8)
    alone = mean_over_images(values[:2], ["a", "a"])
    assert alone.mean == 2
    assert np.isnan([alone.low, alone.high]).all()
    assert np.isnan(mean_over_images(values[3:], ["c"]).mean)


def test_the_interval_of_a_mean_is_that_of_scipy_where_patients_have_an_image_each() -> None:
    values = np.random.default_rng(0).normal(size=60)
    found = mean_over_images(values, [str(n) for n in range(60)])
    told = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    assert (found.low, found.high) == pytest.approx(told.confidence_interval, abs=0.02)


def test_a_gain_is_paired_over_patients() -> None:
    base = np.array([0.1, 0.5, 0.9])
    change = gain([base + 0.1, base + 0.3], [base, base], ["a", "b", "c"])
    assert (change.mean, change.low, change.high) == pytest.approx((0.2, 0.2, 0.2))


def test_the_price_at_equal_accuracy() -> None:
    # Halfway between the stops of the knob; a level beyond its ends is not reached.
    dice, ged = np.array([0.3, 0.4]), np.array([0.20, 0.30])
    assert ged_at(0.35, dice, ged) == pytest.approx(0.25)
    assert np.isnan(ged_at(0.5, dice, ged))
    # A knob that was turned too far comes back to the level at a higher price.
    turned = np.array([0.40, 0.46, 0.48, 0.45]), np.array([0.20, 0.22, 0.27, 0.35])
    assert ged_at(0.45, *turned) == pytest.approx(0.20 + 5 / 6 * 0.02)
    patients = ["a", "b"]
    curve = np.repeat(dice[:, None], 2, 1), np.repeat(ged[:, None], 2, 1)
    other = np.full(2, 0.35), np.full(2, 0.28)
    found = trade(curve, other, patients)
    assert (found.mean, found.low, found.high) == pytest.approx((-0.03, -0.03, -0.03))
    beyond = trade(curve, (np.full(2, 0.5), np.full(2, 0.28)), patients)
    assert np.isnan([beyond.mean, beyond.low]).all()


class Measured:
    """Findings of two images: a knob from .3/.2 over .4/.2 to .5/.4, and points beside it."""

    workspace = SimpleNamespace(recipe=SimpleNamespace(knob={"Mean Dice": [0.5]}))
    patients = ("a", "b")
    points: ClassVar[Mapping[str, tuple[float, float]]] = {
        "Cheap": (0.45, 0.25), "Far": (0.6, 0.3), "Low": (0.2, 0.3)
    }  # fmt: skip
    #: The method's GED is higher in one patient and lower in the other, the knob's the same in both.
    apart = np.array([-0.01, 0.01])

    def curve_seeds(self, name: str) -> set[int]:
        return {0, 1}

    def curve(self, name: str, seeds: set[int]) -> tuple[np.ndarray, np.ndarray] | None:
        dice, ged = np.array([0.3, 0.4, 0.5]), np.array([0.2, 0.2, 0.4])
        return (np.repeat(dice[:, None], 2, 1), np.repeat(ged[:, None], 2, 1)) if seeds else None

    def seeds(self, name: str) -> list[SampleSet]:
        return [SampleSet(name, seed) for seed in (1, 2)] if name in self.points else []

    def values(self, drawings: Sequence[SampleSet], measure: str) -> list[np.ndarray]:
        assert [one.seed for one in drawings] == [1]
        dice, ged = self.points[drawings[0].model]
        return [np.full(2, dice) if measure == "average_dice" else ged + self.apart]


def test_a_method_is_compared_with_the_knob_at_its_own_accuracy() -> None:
    found: Any = Measured()
    assert price(found, "Mean Dice", "Cheap") == (
        "Cheap has an Average Dice of 0.4500 at a GED of 0.2500; Mean Dice, its knob turned to that "
        "Average Dice, has 0.3000: a difference of +0.0500 (95 % interval over patients +0.0400 to "
        "+0.0600)."
    )
    # Out of reach of the knob, without a knob, not drawn.
    for turned, fixed in (("Mean Dice", "Far"), ("Mean Dice", "Low"), ("Far", "Mean Dice")):
        assert price(found, turned, fixed) == ""
    assert price(found, "Mean Dice", "Not drawn") == ""


def test_without_an_interval_there_is_none() -> None:
    assert "no interval" in str(mean_over_images(np.array([1.0, 3.0]), ["a", "a"]))


def test_a_knob_has_only_what_was_drawn_of_its_method() -> None:
    """The reference, the start of every knob, is none by itself, and has a method's seeds beside it."""
    drawn = {
        SampleSet("AmbiSeg", 0), SampleSet("AmbiSeg", 1),
        SampleSet("Region", 0), SampleSet("Region", 0, 0.5),
    }  # fmt: skip
    recipe = SimpleNamespace(seeds=[0, 1], knob={"Region": [0.5], "Mean Dice": [0.5]})
    workspace: Any = SimpleNamespace(recipe=recipe, drawn=drawn.__contains__)
    found = Findings(workspace)
    assert found.stops("Mean Dice") == []
    assert found.stops("Region") == [0, 0.5, 1]
    assert found.on_knob("Region", 0) == [SampleSet("AmbiSeg", 0)]
    assert found.on_knob("Region", 0.5) == [SampleSet("Region", 0, 0.5)]
    assert found.on_knob("Mean Dice", 0) == []
