from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_cases import CLASSES, LABELS, dataset, noise_slate, slate

from segpref.judges import NoisyJudge, OracleJudge
from segpref.types import Case, Judge, LabelSpace, SegprefError, Slate

CASE = dataset([np.zeros((1, 4, 6))], LABELS)[0]


class Says:
    """These scores, whatever the masks; a mask's first pixels hold its row where it is permuted."""

    needs_label = False

    def __init__(self, scores: object) -> None:
        self.scores = np.asarray(scores, float)

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        rows = [int("".join(str(bit) for bit in mask[0, 0, :6]), 2) for mask in slate.masks]
        return self.scores[rows]


def numbered(count: int) -> Slate:
    """Masks ``[2, 4, 6]`` whose first row tells their number."""
    masks = np.zeros((count, 2, 4, 6), np.uint8)
    for number, mask in enumerate(masks):
        mask[:, 0] = [int(bit) for bit in f"{number:06b}"]
    return slate(*masks)


def permuted(candidates: Slate, order: np.ndarray) -> Slate:
    return Slate(candidates.masks[order], tuple(candidates.candidates[i] for i in order))


def test_without_noise_it_is_the_judge_itself() -> None:
    scores = np.random.default_rng(0).random((20, 2))
    scores[3, 1] = np.nan
    np.testing.assert_array_equal(NoisyJudge(Says(scores)).score(CASE, numbered(20)), scores)
    # Noise that never comes is none either.
    always = NoisyJudge(Says(scores), tie_width=1e-12).score(CASE, numbered(20))
    np.testing.assert_array_equal(always, scores)


def test_it_passes_on_what_the_judge_needs() -> None:
    prepared: list[Any] = []

    class Prepares(Says):
        def prepare(self, dataset: Any) -> None:
            prepared.append(dataset)

    NoisyJudge(Prepares([[1]])).prepare("data")  # type: ignore[arg-type]
    assert prepared == ["data"]
    NoisyJudge(Says([[1]])).prepare("data")  # type: ignore[arg-type]
    assert NoisyJudge(OracleJudge(LABELS)).needs_label
    assert not NoisyJudge(Says([[1]])).needs_label
    assert isinstance(NoisyJudge(Says([[1]])), Judge)


@given(seed=st.integers(0, 2**31), order=st.permutations(range(12)))
def test_chance_belongs_to_the_masks(seed: int, order: list[int]) -> None:
    scores = np.random.default_rng(seed).random((12, 2)).round(1)
    scores[5] = np.nan
    judge = NoisyJudge(Says(scores), flip_rate=0.5, noise=0.3, tie_width=0.25, seed=seed)
    candidates = numbered(12)
    first = judge.score(CASE, candidates)
    np.testing.assert_array_equal(first, judge.score(CASE, candidates))
    np.testing.assert_array_equal(np.isnan(first), np.isnan(scores))
    rows = np.array(order)
    np.testing.assert_allclose(judge.score(CASE, permuted(candidates, rows)), first[rows])


def test_seed_case_and_field_matter_and_company_does_not() -> None:
    scores = np.zeros((10, 2))
    judge = NoisyJudge(Says(scores), noise=1.0)
    first = judge.score(CASE, numbered(10))
    assert not np.isin(first[:, 0], first[:, 1]).any()
    assert not np.isin(
        NoisyJudge(Says(scores), noise=1.0, seed=1).score(CASE, numbered(10)), first
    ).any()
    assert not np.isin(judge.score(replace(CASE, id="other"), numbered(10)), first).any()
    np.testing.assert_array_equal(judge.score(CASE, numbered(4)), first[:4])


def test_noise_is_normal() -> None:
    drawn = [
        NoisyJudge(Says(np.full((60, 2), 0.5)), noise=0.1, seed=seed).score(CASE, numbered(60))
        for seed in range(20)
    ]
    z = (np.concatenate(drawn).ravel() - 0.5) / 0.1
    assert abs(z.mean()) < 0.06
    assert abs(z.std() - 1) < 0.05
    assert abs((np.abs(z) < 1).mean() - 0.683) < 0.03


def test_flips_reverse_a_slate_as_often_as_told() -> None:
    scores = np.array([[0.1], [0.4], [np.nan], [0.9]])
    reversed_, kept, silent = [0.9, 0.6, 0.1], [0.1, 0.4, 0.9], 0
    for seed in range(400):
        found = NoisyJudge(Says(scores), flip_rate=0.3, seed=seed).score(CASE, numbered(4))[:, 0]
        told = found[[0, 1, 3]]
        assert np.isnan(found[2])
        silent += int(np.allclose(told, reversed_))
        assert np.allclose(told, reversed_) or np.array_equal(told, kept)
    assert abs(silent / 400 - 0.3) < 0.08
    always = NoisyJudge(Says(scores), flip_rate=1.0).score(CASE, numbered(4))[:, 0]
    np.testing.assert_allclose(always, [0.9, 0.6, np.nan, 0.1])


def test_only_near_ties_change_places() -> None:
    scores = np.array([[0.10], [0.50], [0.12], [0.53], [0.19], [0.51]])
    groups = [[0, 2], [4], [1, 3, 5]]
    orders = set()
    for seed in range(60):
        found = NoisyJudge(Says(scores), tie_width=0.05, seed=seed).score(CASE, numbered(6))[:, 0]
        for group in groups:
            assert sorted(found[group]) == sorted(scores[group, 0])
        orders.add(tuple(found))
    # 2! x 1! x 3! ways, and all of them come.
    assert len(orders) == 12


def test_size_bias_by_hand() -> None:
    space = LabelSpace("multi-label", ("a",))
    three, seven, none = np.zeros((3, 1, 4, 6), np.uint8)
    three[0, 0, :3] = 1
    seven[0, :2, :4] = 1
    seven[0, 0, 0] = 255  # without an opinion is not held
    case = dataset([np.zeros((1, 4, 6))], space)[0]

    class Same(Says):
        def score(self, case: Case, slate: Slate) -> np.ndarray:
            return np.full((len(slate), 1), 0.5)

    found = NoisyJudge(Same([]), size_bias=0.2).score(case, slate(three, seven, none))
    np.testing.assert_allclose(found[:, 0], 0.5 + 0.2 * np.log([1, 8 / 4, 1 / 4]))
    # The classes of a multi-class mask count together.
    classes = noise_slate(np.random.default_rng(0), CLASSES, (4, 6), 3)
    sizes = (classes.masks > 0).sum((1, 2, 3))
    found = NoisyJudge(Same([]), size_bias=-1.0).score(case, classes)
    np.testing.assert_allclose(found[:, 0], 0.5 - np.log((sizes + 1) / (sizes[0] + 1)))


@pytest.mark.parametrize(
    "settings", [{"flip_rate": 1.1}, {"noise": -1.0}, {"tie_width": -0.1}, {"size_bias": np.inf}]
)
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(SegprefError, match=r"noisy judge|size_bias must be a finite number"):
        NoisyJudge(Says([[1]]), **settings)  # type: ignore[arg-type]
