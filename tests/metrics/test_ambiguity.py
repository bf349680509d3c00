from __future__ import annotations

from fractions import Fraction
from itertools import combinations, permutations
from math import lcm

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpref.metrics import ambiguity_scores, pairwise_overlap
from segpref.types import SegprefError


def dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * int(np.logical_and(a, b).sum()) / total


def iou(a: np.ndarray, b: np.ndarray) -> float:
    union = int(np.logical_or(a, b).sum())
    return 1.0 if union == 0 else int(np.logical_and(a, b).sum()) / union


def slowly(samples: np.ndarray, raters: np.ndarray) -> dict[str, float]:
    """Every measure from its formula, one pair of masks after the other."""

    def ged(overlap) -> float:  # type: ignore[no-untyped-def]
        cross = np.mean([1 - overlap(s, g) for s in samples for g in raters])
        ours = np.mean([1 - overlap(s, t) for s in samples for t in samples])
        theirs = np.mean([1 - overlap(g, h) for g in raters for h in raters])
        return 2 * cross - ours - theirs

    def spread(masks: np.ndarray) -> tuple[float, float]:
        apart = [1 - dice(a, b) for a, b in combinations(masks, 2)]
        return (min(apart), max(apart)) if apart else (0.0, 0.0)

    marked = np.any(raters, axis=0)
    covered = np.any(samples, axis=0)
    s_c = np.logical_and(covered, marked).sum() / marked.sum() if marked.any() else np.nan
    d_max = np.mean([max(dice(s, g) for s in samples) for g in raters])
    (low, high), (least, greatest) = spread(samples), spread(raters)
    da = 1 - (abs(low - least) + abs(high - greatest)) / 2
    below = s_c * d_max + d_max * da + s_c * da
    return {
        "ged": ged(dice),
        "ged_iou": ged(iou),
        "combined_sensitivity": s_c,
        "d_max": d_max,
        "diversity_agreement": da,
        "ci": np.nan if np.isnan(s_c) else 3 * s_c * d_max * da / below if below else 0.0,
        "average_dice": np.mean([dice(s, g) for s in samples for g in raters]),
        "average_iou": np.mean([iou(s, g) for s in samples for g in raters]),
    }


def scores(samples: object, raters: object) -> dict[str, float]:
    found = ambiguity_scores([np.asarray(samples, np.uint8)], [np.asarray(raters, np.uint8)])
    return {name: float(getattr(found, name)[0]) for name in found.__slots__}


masks = st.integers(0, 2**32 - 1).flatmap(
    lambda seed: st.tuples(
        st.just(seed), st.integers(1, 5), st.integers(1, 4), st.sampled_from([0.0, 0.1, 0.5, 0.9])
    )
)


def drawn(seed: int, n: int, r: int, density: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    grid = (n + r, 5, 7)
    return tuple(np.split((rng.random(grid) < density).astype(np.uint8), [n]))  # type: ignore[return-value]


@given(masks)
def test_every_measure_is_its_formula(settings: tuple[int, int, int, float]) -> None:
    samples, raters = drawn(*settings)
    found = scores(samples, raters)
    for name, expected in slowly(samples, raters).items():
        assert found[name] == pytest.approx(expected, abs=1e-12, nan_ok=True), name


@given(masks)
def test_matching_by_trying_all(settings: tuple[int, int, int, float]) -> None:
    seed, n, r, density = settings
    samples, raters = drawn(seed, min(n, 3), min(r, 3), density)
    count = lcm(len(samples), len(raters))
    ours = np.repeat(samples, count // len(samples), axis=0)
    theirs = np.repeat(raters, count // len(raters), axis=0)
    table = [[iou(a, b) for b in theirs] for a in ours]
    best = max(
        sum(table[row][column] for row, column in enumerate(order)) / count
        for order in permutations(range(count))
    )
    assert scores(samples, raters)["matched_iou"] == pytest.approx(best)


@given(masks)
def test_ged_is_its_dice_decomposition(settings: tuple[int, int, int, float]) -> None:
    """Proposition 1: E Dice(X, X') + E Dice(Y, Y') - 2 E Dice(X, Y)."""
    samples, raters = drawn(*settings)
    mean = lambda a, b: np.mean([dice(x, y) for x in a for y in b])  # noqa: E731
    expected = mean(samples, samples) + mean(raters, raters) - 2 * mean(samples, raters)
    assert scores(samples, raters)["ged"] == pytest.approx(expected, abs=1e-12)


@given(masks)
def test_ged_of_a_collapsed_model(settings: tuple[int, int, int, float]) -> None:
    """Proposition 2: 1 + E Dice(Y, Y') - 2 E Dice(x*, Y), however many samples say the same."""
    seed, n, r, density = settings
    one, raters = drawn(seed, 1, r, density)
    theirs = np.mean([dice(a, b) for a in raters for b in raters])
    expected = 1 + theirs - 2 * np.mean([dice(one[0], g) for g in raters])
    for count in (1, n, 16):
        found = scores(np.repeat(one, count, axis=0), raters)
        assert found["ged"] == pytest.approx(expected, abs=1e-12)
    # So the single mask with the highest mean Dice has the lowest distance.
    candidates = [np.repeat(g[None], 2, axis=0) for g in raters]
    by_ged = np.array([scores(c, raters)["ged"] for c in candidates])
    by_dice = np.array([scores(c, raters)["average_dice"] for c in candidates])
    np.testing.assert_allclose(by_ged, 1 + theirs - 2 * by_dice, atol=1e-12)


def test_by_hand() -> None:
    # Two samples and two raters on four pixels.
    samples = [[1, 1, 0, 0], [0, 1, 1, 0]]
    raters = [[1, 1, 0, 0], [0, 0, 0, 0]]
    found = scores(samples, raters)
    # Dice: samples 1/2 with each other, 1 and 1/2 with the first rater, 0 with the empty one.
    assert found["average_dice"] == pytest.approx(float(Fraction(3, 8)))
    assert found["ged"] == pytest.approx(3 / 4 + 1 / 2 - 2 * 3 / 8)
    # IoU: 1/3 with each other, 1, 1/3, 0, 0 with the raters.
    assert found["average_iou"] == pytest.approx(1 / 3)
    assert found["ged_iou"] == pytest.approx(2 / 3 + 1 / 2 - 2 / 3)
    assert found["combined_sensitivity"] == 1
    assert found["d_max"] == pytest.approx(1 / 2)
    # Distinct pairs are 1/2 apart among samples, 1 among raters.
    assert found["diversity_agreement"] == pytest.approx(1 / 2)
    assert found["ci"] == pytest.approx(3 / (1 + 2 + 2))
    assert found["matched_iou"] == pytest.approx(1 / 2)


def test_empty_masks() -> None:
    nothing, full = np.zeros((2, 3, 3), np.uint8), np.ones((2, 3, 3), np.uint8)
    agreed = scores(nothing, nothing)
    assert agreed["ged"] == 0
    assert agreed["average_dice"] == agreed["average_iou"] == agreed["d_max"] == 1
    assert agreed["matched_iou"] == agreed["diversity_agreement"] == 1
    # Nobody marks anything, so there is nothing to cover.
    assert np.isnan(agreed["combined_sensitivity"])
    assert np.isnan(agreed["ci"])
    wrong = scores(full, nothing)
    assert wrong["ged"] == 2
    assert wrong["average_dice"] == wrong["matched_iou"] == 0
    missed = scores(nothing, full)
    assert missed["combined_sensitivity"] == missed["ci"] == 0


def test_one_sample_has_no_range() -> None:
    raters = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], np.uint8)
    # Raters are 0 to 1 apart, the sample 0 to 0.
    assert scores(raters[:1], raters)["diversity_agreement"] == pytest.approx(0.5)
    assert scores(raters, raters)["diversity_agreement"] == 1


def test_images_of_different_kinds_and_their_mean() -> None:
    rng = np.random.default_rng(0)
    mask = lambda *shape: (rng.random(shape) < 0.4).astype(np.uint8)  # noqa: E731
    kinds = [(4, 3, (6, 6)), (4, 3, (6, 6)), (2, 1, (6, 6)), (4, 3, (3, 4, 5))] * 6
    images = [(mask(n, *space), mask(r, *space)) for n, r, space in kinds]
    images.append((np.ones((2, 4), np.uint8), np.zeros((2, 4), np.uint8)))
    together = ambiguity_scores([s for s, _ in images], [g for _, g in images])
    for place, (samples, raters) in enumerate(images):
        for name, value in scores(samples, raters).items():
            assert getattr(together, name)[place] == pytest.approx(value, nan_ok=True)
    means = together.mean()
    assert means["ged"] == pytest.approx(together.ged.mean())
    # The image in which nobody marks anything is left out of S_c and CI, and of nothing else.
    assert means["combined_sensitivity"] == pytest.approx(together.combined_sensitivity[:-1].mean())
    assert means["ci"] == pytest.approx(together.ci[:-1].mean())
    assert np.isnan(ambiguity_scores([], []).mean()["ged"])


def test_pairwise_overlap_of_large_and_odd_grids() -> None:
    rng = np.random.default_rng(1)
    found = (rng.random((3, 9, 11, 13)) < 0.5).astype(np.uint8)
    both = pairwise_overlap(found)
    for row in range(3):
        for column in range(3):
            assert both[0][row, column] == dice(found[row], found[column])
            assert both[1][row, column] == iou(found[row], found[column])


@pytest.mark.parametrize(
    ("samples", "raters", "said"),
    [
        (np.zeros((0, 4)), np.zeros((2, 4)), "at least one mask"),
        (np.zeros((2, 4)), np.zeros((2, 5)), "on one grid"),
        (np.zeros((2, 4)), np.full((2, 4), 255), "value 255"),
    ],
)
def test_what_cannot_be_compared(samples: np.ndarray, raters: np.ndarray, said: str) -> None:
    with pytest.raises(SegprefError, match=said):
        scores(samples, raters)
    with pytest.raises(SegprefError, match="1 images"):
        ambiguity_scores([samples], [])


def test_images_of_usual_size() -> None:
    rng = np.random.default_rng(2)
    found = (rng.random((3, 20, 128, 128)) < 0.3).astype(np.uint8)
    samples, raters = found[:, :16], found[:, 16:]
    together = ambiguity_scores(samples, raters)
    for place, (ours, theirs) in enumerate(zip(samples, raters, strict=True)):
        for name, value in slowly(ours, theirs).items():
            assert getattr(together, name)[place] == pytest.approx(value, abs=1e-6)
