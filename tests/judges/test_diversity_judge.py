from __future__ import annotations

import numpy as np
import pytest
from small_cases import BINARY, CLASSES, FOUR, NONE, TWO, noise_slate, rated, slate

from segpref.judges import DiversityJudge, RatersJudge
from segpref.metrics import ambiguity_scores
from segpref.types import IGNORE, LabelSpace, SegprefError, Slate


def judged(weight: float, space: LabelSpace = BINARY) -> DiversityJudge:
    return DiversityJudge(RatersJudge(space, measure="dice"), space, weight)


def test_by_hand() -> None:
    case, candidates = rated(FOUR, FOUR), slate(FOUR, FOUR, TWO, NONE)
    mean = np.array([1, 1, 2 / 3, 0])
    # Each against the three others: Dice of four and two pixels is 2 * 2 / 6, of any with none 0.
    in_common = np.array([(1 + 2 / 3) / 3, (1 + 2 / 3) / 3, (2 / 3 + 2 / 3) / 3, 0])
    for weight in (0, 0.5, 1):
        scores = judged(weight).score(case, candidates)[:, 0]
        np.testing.assert_allclose(scores, mean - weight * in_common)
    assert judged(1).needs_label
    # Two empty masks have all in common, and one candidate nothing.
    np.testing.assert_allclose(judged(1).score(case, slate(NONE, NONE)), [[-1], [-1]])
    np.testing.assert_allclose(judged(1).score(case, slate(TWO)), [[2 / 3]])


def test_more_of_a_better_candidate_brings_samples_and_raters_together() -> None:
    """Against GED itself: what changes when a candidate is drawn a little more often."""
    rng = np.random.default_rng(0)
    side, raters, drawn, step = 6, 3, 5, 1e-4
    for _ in range(20):
        masks = rng.integers(0, 2, (drawn, 1, side, side)).astype(np.uint8)
        others = rng.integers(0, 2, (raters, 1, side, side)).astype(np.uint8)
        both = ambiguity_scores([masks[:, 0]], [others[:, 0]])
        weights = np.full(drawn, 1 / drawn)

        def ged(
            weights: np.ndarray, masks: np.ndarray = masks, others: np.ndarray = others
        ) -> float:
            def dice(one: np.ndarray, other: np.ndarray) -> np.ndarray:
                one, other = (x.reshape(len(x), -1).astype(float) for x in (one, other))
                return np.asarray(2 * one @ other.T / (one.sum(1)[:, None] + other.sum(1)))

            uniform = np.full(len(others), 1 / len(others))
            return float(
                2 * (1 - weights @ dice(masks, others) @ uniform)
                - (1 - weights @ dice(masks, masks) @ weights)
                - (1 - uniform @ dice(others, others) @ uniform)
            )

        assert ged(weights) == pytest.approx(float(both.ged[0]), abs=1e-6)
        change = []
        for k in range(drawn):
            more = weights * (1 - step)
            more[k] += step
            change.append((ged(more) - ged(weights)) / step)
        # E[d(x, X')] counts a sample against itself, the judge against the others alone.
        weight = (drawn - 1) / drawn
        scores = judged(weight).score(rated(*others), Slate(masks, slate(*masks).candidates))[:, 0]
        slope, offset = np.polyfit(scores, change, 1)
        assert slope == pytest.approx(-2, abs=1e-2)
        np.testing.assert_allclose(change, slope * scores + offset, atol=1e-2)


def test_the_order_of_candidates_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    raters = rng.integers(0, 3, (2, 1, 5, 5)).astype(np.uint8)
    case, candidates = rated(*raters, space=CLASSES), noise_slate(rng, CLASSES, (5, 5), 6)
    order = rng.permutation(6)
    turned = Slate(candidates.masks[order], tuple(candidates.candidates[k] for k in order))
    judge = judged(1, CLASSES)
    np.testing.assert_allclose(judge.score(case, turned), judge.score(case, candidates)[order])


def test_who_abstains_goes_on_abstaining() -> None:
    silent = np.full((1, 1, 6), IGNORE)
    assert np.isnan(judged(1).score(rated(silent), slate(FOUR, TWO))).all()


def test_mistakes_are_one_clear_sentence() -> None:
    for weight in (-1, np.nan, np.inf):
        with pytest.raises(SegprefError, match=r"from 0|must be a finite number"):
            judged(weight)
    with pytest.raises(SegprefError, match="one of dice, iou, not 'nsd'"):
        DiversityJudge(RatersJudge(BINARY), BINARY, measure="nsd")  # type: ignore[arg-type]
