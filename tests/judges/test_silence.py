"""A judge says nothing of structures that it never draws."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cases import CLASSES, LABELS, dataset, says, slate
from torch import Tensor, nn

from segpref.contrib.judges import ConfidenceJudge, ConsensusJudge, ConsistencyJudge
from segpref.data import Cache, Dataset
from segpref.judges import (
    Committee,
    EnsembleJudge,
    ModelJudge,
    NoisyJudge,
    OracleJudge,
    RatersJudge,
    RegressorJudge,
    UndrawnStructures,
    note_undrawn_structures,
)
from segpref.types import IGNORE, Judge, LabelSpace, Slate

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


def test_images_of_which_a_member_says_nothing_are_not_its_own() -> None:
    """b is in every image; the member has a file of it for one of twenty, where it is right."""
    labels = np.array([BOTH] * 20, np.uint8)
    unsaid = np.full_like(labels[0], IGNORE)
    masks = labels.copy()
    masks[1:, 1] = unsaid[1]
    silence = UndrawnStructures(LABELS)
    assert silence.measure(([mask], label) for mask, label in zip(masks, labels, strict=True))
    assert silence.structures == ()
    masks[0, 1] = 0
    assert silence.measure(([mask], label) for mask, label in zip(masks, labels, strict=True))
    assert silence.structures == ("b",)


class Learned(nn.Module):
    """Expects more of a mask the more it holds of the first structure and the less of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch: Tensor) -> Tensor:
        sizes = batch[:, 1:].flatten(2).sum(2)
        return self.weight * sizes * torch.tensor([1.0, -1.0])


def confidence(space: LabelSpace, mask: object, where: Path) -> ConfidenceJudge:
    return ConfidenceJudge(says(space, mask, "sure"), cache=Cache(where))


@pytest.mark.parametrize("kind", ["confidence", "regressor", "raters", "best rater", "consensus"])
@pytest.mark.parametrize("space", [LABELS, CLASSES])
def test_every_judge_that_knows_nothing_of_a_structure(
    kind: str, space: LabelSpace, tmp_path: Path
) -> None:
    """Each likes empty candidates best where it knows nothing of b, until it abstains."""
    many = space is LABELS
    truth, only_a = ([A, B], [A, EMPTY]) if many else ([[[1, 1, 2, 2]]], [A])
    wrong_a = [EMPTY, EMPTY] if many else [EMPTY]
    data = dataset(IMAGES, space, [truth] * 4)
    judges: dict[str, Judge] = {
        "confidence": confidence(space, only_a, tmp_path),
        "regressor": RegressorJudge(Learned(), space),
        "raters": RatersJudge(space),
        "best rater": RatersJudge(space, "best"),
        "consensus": ConsensusJudge(space),
    }
    judge = judges[kind]
    raters = np.array([[only_a, only_a]] * 4, np.uint8)[:, None]
    by_raters = Dataset(
        [replace(one, raters=said) for one, said in zip(data.volumes, raters, strict=True)], space
    )
    if hasattr(judge, "prepare"):
        judge.prepare(by_raters)
    case = by_raters[0]
    candidates = slate(only_a, truth, wrong_a)
    before = judge.score(case, candidates)[:, -1]
    assert before[0] > before[1]
    assert note_undrawn_structures(judge, by_raters) == ("b",)
    after = judge.score(case, candidates)
    assert after[0, 0] == pytest.approx(after[1, 0], abs=1e-6), "what it says of a is kept"
    assert after[0, 0] > after[2, 0]
    assert not many or np.isnan(after[:, 1]).all()
    blind = replace(by_raters.volumes[0], labels=None, raters=raters[0] * 0)
    if judge.needs_label:
        assert note_undrawn_structures(judge, Dataset([blind], space)) == ("a", "b")
        assert np.isnan(judge.score(case, candidates)).all()


def test_what_judges_know_they_keep_saying(tmp_path: Path) -> None:
    """b is in one image of twenty, where each finds it."""
    labels = [BOTH] + [ONLY_A] * 19
    data = dataset([np.full((1, 1, 4), float(number)) for number in range(20)], LABELS, labels)
    raters = [np.array([[one, ONLY_A]], np.uint8) for one in labels]
    rated = Dataset(
        [replace(one, raters=said) for one, said in zip(data.volumes, raters, strict=True)], LABELS
    )
    for judge in (RatersJudge(LABELS), confidence(LABELS, BOTH, tmp_path)):
        assert note_undrawn_structures(judge, rated) == ()


def test_judges_without_anything_to_look_at_say_what_they_say() -> None:
    data = dataset(IMAGES, LABELS, [BOTH] * 4)
    for judge in (RatersJudge(LABELS), ConsensusJudge(LABELS)):
        assert note_undrawn_structures(judge, data) == (), "no raters"
    regressor = RegressorJudge(Learned(), LABELS)
    assert note_undrawn_structures(regressor, data.without_labels()) == ()
    # Raters of the pool are read where the judge reads them anyway.
    pool = Dataset(
        [replace(one, raters=np.array([[ONLY_A]], np.uint8)) for one in data.volumes], LABELS
    )
    assert note_undrawn_structures(RatersJudge(LABELS), data, pool) == ("b",)


def test_the_oracle_knows_that_a_structure_is_absent() -> None:
    data = dataset(IMAGES, LABELS, [ONLY_A] * 4)
    judge = OracleJudge(LABELS)
    assert note_undrawn_structures(judge, data) == ()
    candidates: Slate = slate(ONLY_A, BOTH)
    np.testing.assert_array_equal(judge.score(data[0], candidates), [[1, 1], [1, 0]])
