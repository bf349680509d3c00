"""Content ids, and slates with what a judge says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segpref.data import Dataset
from segpref.judges import OracleJudge
from segpref.policies import load_model
from segpref.preferences import (
    AbstainingJudge,
    Candidates,
    RoundSlates,
    Scoring,
    content_id,
    content_ids,
)
from segpref.proposals import LargestComponent, LogitBias, SlateProposals
from segpref.types import Candidate, Case, SegprefError, Slate

MASKS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.integers(0, 2)
)
SLATES = SlateProposals(5, [LogitBias(), LargestComponent()])


@given(MASKS)
def test_an_id_is_of_the_content_and_not_of_the_memory(mask: np.ndarray) -> None:
    name = content_id(mask)
    assert len(name) == 32
    assert content_id(np.asfortranarray(mask)) == name
    assert content_id(np.repeat(mask, 2, axis=-1)[..., ::2]) == name
    assert content_id(mask.astype(np.int64)) == name


@given(MASKS, MASKS)
def test_masks_have_the_same_id_where_they_are_the_same(a: np.ndarray, b: np.ndarray) -> None:
    assert (content_id(a) == content_id(b)) == np.array_equal(a, b)
    flat = a.reshape(1, -1)
    assert (content_id(a) == content_id(flat)) == (a.shape == flat.shape)


def test_an_id_is_written_in_votes_and_must_stay() -> None:
    mask = np.array([[[0, 1], [2, 255]]], np.uint8)
    assert content_id(mask) == "93273bc711f2415c1bc4e8c9a3e75c0d"


def test_slates_come_with_scores_labels_and_ids(heart_base: Path, hearts: Dataset) -> None:
    policy, _ = load_model(heart_base)
    cases = hearts[3:6]
    made = Candidates(policy, SLATES)
    slates = made(cases, 7, (1,))

    class Blind:
        needs_label = False

        def score(self, case: Case, slate: Slate) -> np.ndarray:
            assert case.label is None
            return np.arange(len(slate), dtype=float)[:, None]

        def uncertainty(self, case: Case, slate: Slate) -> np.ndarray:
            return self.score(case, slate) / 10

    found = Scoring(Blind(), unsure=True)(cases, slates)
    oracle = Scoring(OracleJudge(hearts.label_space))(cases, slates)
    images = torch.from_numpy(np.stack([case.image for case in cases]))
    expected = SLATES(policy, policy.forward(images), images, cases, 7, (1,))
    for case, one, judged, same in zip(cases, found, oracle, expected, strict=True):
        assert one.case is case
        assert case.label is not None
        np.testing.assert_array_equal(one.slate.masks, same.masks)
        np.testing.assert_array_equal(one.scores.ravel(), range(5))
        np.testing.assert_array_equal(one.uncertainty, one.scores / 10)
        assert judged.uncertainty is None
        assert judged.scores[0] == OracleJudge(hearts.label_space).score(case, same)[0]
        assert one.ids == content_ids(same) == judged.ids
        assert len(set(one.ids)) == 5


def test_nobody_has_said_anything_yet() -> None:
    slate = Slate(np.zeros((3, 2, 4, 4), np.uint8), (Candidate("anchor"),) * 3)
    case = Case(id="a", patient="a", volume="a", image=np.zeros((1, 4, 4), np.float32))
    scores = AbstainingJudge().score(case, slate)
    assert scores.shape == (3, 2)
    assert np.isnan(scores).all()


def test_standing_slates_of_other_cases_are_refused(
    heart_base: Path, hearts: Dataset, tmp_path: Path
) -> None:
    made = Candidates(load_model(heart_base)[0], SLATES)

    def round_slates(pool: Dataset) -> RoundSlates:
        def make(cases: list[Case], number: int) -> tuple[list[Slate], None]:
            return made(cases, 0, (number,)), None

        return RoundSlates(make, pool, AbstainingJudge(), tmp_path, every=1)

    pool, other = hearts.take(range(4)), hearts.take(range(1, 5))
    first = round_slates(pool)([2], 0, 0)
    assert np.isnan(first.scores[0]).all()
    again = round_slates(pool)([2], 0, 0)
    assert content_ids(first.slates[0]) == content_ids(again.slates[0])
    with pytest.raises(SegprefError, match="slates of other cases than the pool's"):
        round_slates(other)([2], 0, 0)
