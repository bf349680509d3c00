from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from small_cases import BINARY, CLASSES, FOUR, NONE, TWO, dataset, noise_slate, rated, slate

from segpref.judges import RatersJudge
from segpref.types import IGNORE, LabelSpace, SegprefError

MeanDiceJudge = partial(RatersJudge, agreement="mean", measure="dice")
BestRaterJudge = partial(RatersJudge, agreement="best", measure="dice")


def test_by_hand() -> None:
    case, candidates = rated(FOUR, TWO, NONE), slate(FOUR, TWO, NONE)
    # Dice of four and two pixels is 2 * 2 / 6.
    mean = MeanDiceJudge(BINARY).score(case, candidates)[:, 0]
    np.testing.assert_allclose(mean, [(1 + 2 / 3 + 0) / 3, (2 / 3 + 1 + 0) / 3, 1 / 3])
    best = BestRaterJudge(BINARY).score(case, candidates)[:, 0]
    np.testing.assert_allclose(best, [1, 1, 1])
    best = BestRaterJudge(BINARY).score(rated(TWO, TWO), candidates)[:, 0]
    np.testing.assert_allclose(best, [2 / 3, 1, 0])
    assert MeanDiceJudge(BINARY).needs_label
    assert BestRaterJudge(BINARY).needs_label


def test_one_class_is_one_structure() -> None:
    rng = np.random.default_rng(0)
    space = LabelSpace("multi-class", ("background", "a"))
    candidates = noise_slate(rng, space, (4, 4), 5)
    raters = rng.integers(0, 2, (3, 1, 4, 4))
    for judge in (MeanDiceJudge, BestRaterJudge):
        np.testing.assert_allclose(
            judge(space).score(rated(*raters, space=space), candidates),
            judge(BINARY).score(rated(*raters), candidates),
        )


def test_classes_are_averaged_pixel_by_pixel() -> None:
    rng = np.random.default_rng(1)
    candidates = noise_slate(rng, CLASSES, (5, 5), 4)
    raters = rng.integers(0, 3, (2, 1, 5, 5)).astype(np.uint8)
    expected = np.zeros((2, 4))
    for r, rater in enumerate(raters):
        for k, mask in enumerate(candidates.masks):
            each = [
                2 * np.sum((mask == c) & (rater == c)) / (np.sum(mask == c) + np.sum(rater == c))
                for c in (1, 2)
            ]
            expected[r, k] = np.mean(each)
    case = rated(*raters, space=CLASSES)
    np.testing.assert_allclose(
        MeanDiceJudge(CLASSES).score(case, candidates)[:, 0], expected.mean(0)
    )
    np.testing.assert_allclose(
        BestRaterJudge(CLASSES).score(case, candidates)[:, 0], expected.max(0)
    )
    nothing = rated(0 * raters[0], space=CLASSES)
    assert MeanDiceJudge(CLASSES).score(nothing, slate(0 * raters[0], 0 * raters[0])).tolist() == [
        [1],
        [1],
    ]


def test_who_says_nothing_has_no_voice() -> None:
    silent = np.full((1, 1, 6), IGNORE)
    for judge in (MeanDiceJudge(BINARY), BestRaterJudge(BINARY)):
        assert judge.score(rated(TWO, silent), slate(FOUR))[0, 0] == pytest.approx(2 / 3)
        assert np.isnan(judge.score(rated(silent), slate(FOUR))).all()
        bare = dataset([np.zeros((1, 1, 6))], BINARY)[0]
        with pytest.raises(SegprefError, match="p00 has no masks of several raters"):
            judge.score(bare, slate(FOUR))


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(SegprefError, match="one of iou, dice, not 'nsd'"):
        RatersJudge(BINARY, measure="nsd")  # type: ignore[arg-type]
