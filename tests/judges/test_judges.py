from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segpref.data import Cache, Dataset
from segpref.judges import ModelJudge, OracleJudge
from segpref.policies import load_model
from segpref.types import Candidate, Case, Judge, LabelSpace, SegprefError, Slate

CLASSES = LabelSpace("multi-class", ("background", "a", "b"))
LABELS = LabelSpace("multi-label", ("a", "b"))


def slate(*masks: np.ndarray) -> Slate:
    return Slate(
        np.stack(masks).astype(np.uint8), tuple(Candidate(f"{n}") for n in range(len(masks)))
    )


def case(label: np.ndarray | None) -> Case:
    shape = (1, 2, 4) if label is None else label.shape[1:]
    image = np.zeros((1, *shape[-2:]), np.float32)
    return Case(id="x", patient="x", volume="x", image=image, label=label)


def test_the_oracle_by_hand_in_classes() -> None:
    truth = np.array([[[1, 1, 2, 2], [0, 0, 0, 0]]], np.uint8)
    half = np.array([[[1, 0, 2, 0], [0, 0, 0, 0]]])
    swapped = np.array([[[2, 2, 1, 1], [0, 0, 0, 0]]])
    nothing = np.zeros((1, 2, 4))
    only_a = np.array([[[1, 1, 1, 0], [0, 0, 0, 0]]])
    scores = OracleJudge(CLASSES).score(case(truth), slate(truth, half, swapped, nothing, only_a))
    np.testing.assert_allclose(scores[:, 0], [1, 0.5, 0, 0, (2 / 3 + 0) / 2])


def test_the_oracle_scores_structures_one_by_one() -> None:
    truth = np.array([[[1, 1, 0, 0]], [[0, 0, 0, 0]]], np.uint8)
    wrong = np.array([[[1, 0, 0, 0]], [[0, 1, 0, 0]]])
    scores = OracleJudge(LABELS).score(case(truth), slate(truth, wrong))
    np.testing.assert_allclose(scores, [[1, 1], [0.5, 0]])


def test_a_class_that_nobody_holds_does_not_count() -> None:
    truth = np.array([[[1, 1, 0, 0]]], np.uint8)
    scores = OracleJudge(CLASSES).score(case(truth), slate(truth, truth[..., ::-1], 0 * truth))
    np.testing.assert_allclose(scores[:, 0], [1, 0, 0])
    # As soon as one candidate holds it, leaving it empty is right.
    scores = OracleJudge(CLASSES).score(case(truth), slate(truth, 0 * truth, 2 * truth))
    np.testing.assert_allclose(scores[:, 0], [1, 0.5, 0])


def test_the_oracle_needs_a_label() -> None:
    with pytest.raises(SegprefError, match="x has no label"):
        OracleJudge(CLASSES).score(case(None), slate(np.zeros((1, 2, 4))))


def test_who_may_see_labels(hearts: Dataset, heart_judge: Path, tmp_path: Path) -> None:
    oracle = OracleJudge(hearts.label_space)
    model = ModelJudge(load_model(heart_judge)[0], Cache(tmp_path))
    assert oracle.needs_label
    assert not model.needs_label
    assert isinstance(oracle, Judge)
    assert isinstance(model, Judge)


def test_the_model_judge_compares_with_its_own_prediction(
    hearts: Dataset, heart_judge: Path, tmp_path: Path
) -> None:
    model, _ = load_model(heart_judge)
    judge = ModelJudge(model, Cache(tmp_path))
    some = hearts.take([3, 20])
    judge.prepare(some)
    oracle = OracleJudge(hearts.label_space)
    rng = np.random.default_rng(0)
    for one in some:
        own = judge.own_mask(one)
        assert own.shape == one.label.shape
        candidates = slate(own, one.label, rng.permutation(own.ravel()).reshape(own.shape))
        scores = judge.score(one, candidates)
        assert scores[0, 0] == 1
        assert scores[2, 0] < 1
        # The same as an oracle whose truth is the judge's prediction; the label plays no part.
        np.testing.assert_array_equal(scores, oracle.score(replace(one, label=own), candidates))
        np.testing.assert_array_equal(scores, judge.score(replace(one, label=None), candidates))
