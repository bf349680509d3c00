from __future__ import annotations

import numpy as np
import pytest
from small_cases import BINARY, CLASSES, FOUR, LABELS, NONE, TWO, dataset, noise_slate, rated, slate

from segpref.contrib.judges import ConsensusJudge, consensus, staple
from segpref.judges import RatersJudge
from segpref.metrics import slate_iou
from segpref.types import IGNORE, LabelSpace, SegprefError


def test_mean_and_best_by_hand() -> None:
    case = rated(FOUR, TWO, NONE)
    candidates = slate(FOUR, TWO, NONE)
    mean = RatersJudge(BINARY).score(case, candidates)
    np.testing.assert_allclose(mean[:, 0], [(1 + 0.5 + 0) / 3, (0.5 + 1 + 0) / 3, 1 / 3])
    best = RatersJudge(BINARY, "best").score(case, candidates)
    np.testing.assert_allclose(best[:, 0], [1, 1, 1])
    assert RatersJudge(BINARY).needs_label


def test_agreement_with_the_consensus() -> None:
    case = rated(FOUR, FOUR, TWO)
    scores = ConsensusJudge(BINARY).score(case, slate(FOUR, TWO))
    np.testing.assert_allclose(scores[:, 0], [1, 0.5])


def test_who_says_nothing_has_no_voice() -> None:
    silent = np.full((1, 1, 6), IGNORE)
    for judge in (RatersJudge(BINARY, "mean"), RatersJudge(BINARY, "best"), ConsensusJudge(BINARY)):
        assert judge.score(rated(TWO, silent), slate(FOUR))[0, 0] == 0.5
        assert np.isnan(judge.score(rated(silent, silent), slate(FOUR))).all()
    # Of two structures, one that nobody rated.
    both = np.array([TWO[0], silent[0]])
    for judge in (RatersJudge(LABELS), ConsensusJudge(LABELS)):
        scores = judge.score(rated(both, space=LABELS), slate([FOUR[0], TWO[0]]))
        np.testing.assert_array_equal(scores, [[0.5, np.nan]])


def test_one_rater_is_the_oracle() -> None:
    rng = np.random.default_rng(0)
    for space in (CLASSES, LABELS):
        candidates = noise_slate(rng, space, (4, 5, 3), 6)
        truth = rng.integers(0, space.values, (space.fields, 4, 5, 3)).astype(np.uint8)
        truth[..., 0] = IGNORE
        for judge in (
            RatersJudge(space, "mean"),
            RatersJudge(space, "best"),
            ConsensusJudge(space),
        ):
            scores = judge.score(rated(truth, space=space), candidates)
            np.testing.assert_allclose(scores, slate_iou(candidates.masks, truth, space))


def test_cases_without_raters_and_unknown_agreements() -> None:
    case = dataset([np.zeros((1, 1, 6))], BINARY)[0]
    with pytest.raises(SegprefError, match="p00 has no masks of several raters"):
        RatersJudge(BINARY).score(case, slate(FOUR))
    with pytest.raises(SegprefError, match="p00 has no masks of several raters"):
        ConsensusJudge(BINARY).score(case, slate(FOUR))
    with pytest.raises(SegprefError, match="not 'median'"):
        RatersJudge(BINARY, "median")  # type: ignore[arg-type]


def binary_staple(ratings: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sensitivities and specificities pixel by pixel, as in Sec. II-D of the paper."""
    d = ratings.reshape(len(ratings), -1).astype(float)
    prior = d.mean()
    p = q = np.full(len(d), 0.99)
    for _ in range(rounds + 1):
        a = prior * np.prod(np.where(d == 1, p[:, None], 1 - p[:, None]), axis=0)
        b = (1 - prior) * np.prod(np.where(d == 0, q[:, None], 1 - q[:, None]), axis=0)
        w = a / (a + b)
        last = p, q
        p, q = (d * w).sum(1) / w.sum(), ((1 - d) * (1 - w)).sum(1) / (1 - w).sum()
    return w, *last


def simulated(seed: int, sensitivity: list[float], specificity: list[float]) -> tuple:
    rng = np.random.default_rng(seed)
    truth = np.zeros((64, 64), bool)
    truth[20:44, 12:40] = True
    raters = [
        np.where(truth, rng.random(truth.shape) < p, rng.random(truth.shape) >= q)
        for p, q in zip(sensitivity, specificity, strict=True)
    ]
    return truth, np.array(raters, np.uint8)


def test_staple_as_in_the_paper() -> None:
    truth, ratings = simulated(0, [0.95, 0.9, 0.6, 0.8], [0.9, 0.99, 0.95, 0.7])
    w, p, q = binary_staple(ratings, 300)
    found = staple(ratings, 2)
    np.testing.assert_allclose(found[1].ravel(), w, atol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1)
    # It also finds out what the raters are worth.
    np.testing.assert_allclose(p, [0.95, 0.9, 0.6, 0.8], atol=0.05)
    np.testing.assert_allclose(q, [0.9, 0.99, 0.95, 0.7], atol=0.05)
    assert (found.argmax(0) != truth).mean() < 0.8 * (ratings != truth).mean((1, 2)).min()


def test_staple_outvotes_a_careless_majority() -> None:
    truth, ratings = simulated(1, [0.99, 0.97, 0.55, 0.55, 0.55], [0.99, 0.97, 0.6, 0.6, 0.6])
    majority = (ratings.mean(0) > 0.5) != truth
    assert ((staple(ratings, 2).argmax(0) != truth).mean()) < 0.5 * majority.mean()


def test_staple_of_three_classes_finds_their_confusion() -> None:
    rng = np.random.default_rng(2)
    truth = np.repeat([0, 0, 1, 2], 1000).reshape(40, 100)
    theta = np.array(
        [[[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.0, 0.2, 0.8]]] * 3
        + [[[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]]] * 2
    )
    edges = theta[:, truth].cumsum(-1)
    ratings = (rng.random((5, 40, 100))[..., None] > edges).sum(-1).astype(np.uint8)
    space = LabelSpace("multi-class", ("background", "a", "b"))
    found = consensus(ratings[:, None], space)[0]
    assert (found != truth).mean() < 0.7 * (ratings[:3] != truth).mean()


def test_staple_of_agreement_gaps_and_nothing() -> None:
    same = np.array([[[1, 0, 1]]] * 3, np.uint8)
    np.testing.assert_allclose(staple(same, 2)[1], [[1, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(staple(0 * same, 2)[1], 0)
    holes = np.array(
        [[1, 1, 0, 0, IGNORE], [1, 1, 0, 0, IGNORE], [1, IGNORE, 0, 1, IGNORE]], np.uint8
    )
    np.testing.assert_allclose(staple(holes, 2)[1, :3], [1, 1, 0], atol=1e-3)
    agreed = consensus(holes[:, None], BINARY)
    np.testing.assert_array_equal(agreed, [[1, 1, 0, 0, IGNORE]])
