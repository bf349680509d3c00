"""A judge says nothing of structures that it never draws."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from small_cases import CLASSES, LABELS, dataset, says, slate

from segpref.contrib.judges import ConsistencyJudge
from segpref.data import Cache
from segpref.judges import (
    Committee,
    EnsembleJudge,
    ModelJudge,
    NoisyJudge,
    OracleJudge,
    UndrawnStructures,
    note_undrawn_structures,
)

A, B = [[1, 1, 0, 0]], [[0, 0, 1, 1]]
EMPTY = [[0, 0, 0, 0]]
BOTH, ONLY_A = [A, B], [A, EMPTY]
IMAGES = [np.full((1, 1, 4), float(number)) for number in range(4)]


def test_empty_candidates_are_not_rewarded_where_the_judge_draws_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """29 empty candidates and three that draw b: without abstaining the empty ones score 1."""
    data = dataset(IMAGES, LABELS, [BOTH] * 4)
    judge = ModelJudge(says(LABELS, ONLY_A, "a"), Cache(tmp_path))
    judge.prepare(data)
    candidates = slate(*[ONLY_A] * 29, *[BOTH] * 3)
    assert (judge.score(data[0], candidates)[:, 1] == [1] * 29 + [0] * 3).all()
    with caplog.at_level(logging.WARNING):
        assert note_undrawn_structures(judge, data) == ("b",)
        assert note_undrawn_structures(judge, data) == ("b",)
    assert [record for record in caplog.text.splitlines() if "draws b next to nowhere" in record]
    assert caplog.text.count("next to nowhere") == 1, "said once"
    scores = judge.score(data[0], candidates)
    assert np.isnan(scores[:, 1]).all()
    assert (scores[:, 0] == 1).all()


def test_of_exclusive_classes_the_others_count(tmp_path: Path) -> None:
    truth = [[[1, 1, 2, 2]]]
    data = dataset(IMAGES, CLASSES, [truth] * 4)
    judge = ModelJudge(says(CLASSES, [[[1, 1, 0, 0]]], "a"), Cache(tmp_path))
    assert note_undrawn_structures(judge, data) == ("b",)
    scores = judge.score(data[0], slate([[[1, 1, 0, 0]]], truth, [[[1, 0, 2, 2]]]))
    # With b in the mean the truth would have 1/2 and the mask without b 1.
    np.testing.assert_allclose(scores[:, 0], [1, 1, 0.5])
    nothing = ModelJudge(says(CLASSES, [[[0] * 4]], "none"), Cache(tmp_path))
    assert note_undrawn_structures(nothing, data) == ("a", "b")
    assert np.isnan(nothing.score(data[0], slate([[[1, 1, 0, 0]]], truth))).all()


def test_rare_structures_count_where_the_judge_finds_them() -> None:
    """b is in one image of twenty, where the judge finds it: that is all it can do."""
    masks = [BOTH] + [ONLY_A] * 19
    found, labels = np.array(masks, np.uint8)[:, None], np.array(masks, np.uint8)
    silence = UndrawnStructures(LABELS)
    assert silence.counted() is None
    assert silence.measure(zip(found, labels, strict=True))
    assert silence.structures == ()
    # A stray pixel elsewhere does not find it.
    stray = found.copy()
    stray[:, 0, 1] = 0
    stray[:, 0, 1, 0, 0] = 1
    assert silence.measure(zip(stray, labels, strict=True))
    assert silence.structures == ("b",)
    # Without labels what counts is what is drawn.
    assert silence.measure((one, None) for one in found)
    assert silence.structures == ("b",)
    assert not silence.measure([])
    assert silence.structures == ("b",)


def test_a_member_of_an_ensemble_is_left_out_where_it_draws_nothing(tmp_path: Path) -> None:
    data = dataset(IMAGES, LABELS, [BOTH] * 4)
    judge = EnsembleJudge(
        [says(LABELS, BOTH, "both"), says(LABELS, ONLY_A, "a")], 0.3, cache=Cache(tmp_path)
    )
    judge.prepare(data)
    assert np.isnan(judge.score(data[0], slate(BOTH, ONLY_A))[:, 1]).all(), "they disagree"
    assert note_undrawn_structures(judge, data) == ()
    scores = judge.score(data[0], slate(BOTH, ONLY_A))
    np.testing.assert_array_equal(scores, [[1, 1], [1, 0]])
    np.testing.assert_array_equal(judge.uncertainty(data[0], slate(BOTH, ONLY_A)), 0)
    np.testing.assert_array_equal(judge.disagreement(data[0]), [0, 0])
    silent = EnsembleJudge([says(LABELS, ONLY_A, "a")] * 2, cache=Cache(tmp_path))
    assert note_undrawn_structures(silent, data) == ("b",)
    assert np.isnan(silent.score(data[0], slate(BOTH, ONLY_A))[:, 1]).all()
    assert np.isnan(silent.uncertainty(data[0], slate(BOTH, ONLY_A))[:, 1]).all()


def test_judges_within_judges_are_asked(tmp_path: Path) -> None:
    data = dataset(IMAGES, LABELS, [BOTH] * 4)
    one, other = (
        ModelJudge(says(LABELS, mask, name), Cache(tmp_path))
        for mask, name in ((ONLY_A, "a"), (BOTH, "both"))
    )
    committee = Committee([NoisyJudge(one), other], by="score")
    assert note_undrawn_structures(committee, data) == ()
    assert (one.abstains_on, other.abstains_on) == (("b",), ())
    scores = committee.score(data[0], slate(BOTH, ONLY_A))
    np.testing.assert_array_equal(scores, [[1, 1], [1, 0]])
    assert note_undrawn_structures(Committee([one, NoisyJudge(one)]), data) == ("b",)
    assert note_undrawn_structures(OracleJudge(LABELS), data) == ()
    consistent = ConsistencyJudge(says(LABELS, ONLY_A, "a"), cache=Cache(tmp_path))
    assert note_undrawn_structures(consistent, data) == ("b",)
