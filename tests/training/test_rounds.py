"""Preference sets that stand for several epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segpref.data import Dataset
from segpref.judges import OracleJudge
from segpref.policies import Segmenter, SegmenterState, load_model
from segpref.proposals import LargestComponent, LogitBias, SlateProposals
from segpref.training.rounds import PreferenceRounds
from segpref.training.step import ScoredSlates
from segpref.types import Case, LabelSpace, SegprefError, Slate

SLATES = SlateProposals(5, [LogitBias(), LargestComponent()])


@pytest.fixture
def pool(hearts: Dataset) -> Dataset:
    return hearts.of_patients(hearts.patients[4:7])


@pytest.fixture
def policy(heart_base: Path) -> Segmenter:
    return load_model(heart_base)[0]


def rounds(policy: Segmenter, pool: Dataset, folder: Path, **options: Any) -> PreferenceRounds:
    judge = options.pop("judge", OracleJudge(pool.label_space))
    settings = {"every": 2, "seed": 3, "batch_size": 5, **options}
    # Without logits of the frozen start, the reference is the policy at the round's beginning.
    return PreferenceRounds(policy, None, pool, judge, SLATES, folder, **settings)


def drawn(made: PreferenceRounds, indices: Sequence[int], epoch: int, step: int) -> ScoredSlates:
    state = SegmenterState(torch.zeros(1, 4, 32, 32))
    return made(indices, [], torch.empty(0), state, epoch, step)


def learn(policy: Segmenter) -> None:
    with torch.no_grad():
        for weight in policy.network.parameters():
            weight.mul_(1.2)


def same(first: Sequence[Slate], second: Sequence[Slate]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a.masks, b.masks) and a.candidates == b.candidates for a, b in pairs)


def test_a_round_is_of_the_policy_at_its_beginning(
    policy: Segmenter, pool: Dataset, tmp_path: Path
) -> None:
    made = rounds(policy, pool, tmp_path)
    chosen = [7, 0, 3]
    before, scores, *_ = drawn(made, chosen, 0, 0)
    for i, slate, score in zip(chosen, before, scores, strict=True):
        image = torch.from_numpy(np.array(pool[i].image))[None]
        state = policy.forward(image)
        alone = SLATES(policy, state, image, [pool[i]], 3, (0,))
        assert same([slate], alone)
        truth = OracleJudge(pool.label_space).score(pool[i], slate)
        np.testing.assert_array_equal(score, truth)
    learn(policy)
    assert same(drawn(made, chosen, 1, 4)[0], before)
    after, *_ = drawn(made, chosen, 2, 0)
    assert not same(after, before)
    anchors = policy.label_space.decode(
        policy.logits(torch.from_numpy(np.array(pool[7].image))[None])
    )
    np.testing.assert_array_equal(after[0].masks[0], anchors[0].numpy())
    assert {path.name for path in tmp_path.glob("round-*")} == {
        "round-001.json",
        "round-001.logits.npy",
        "round-001.masks.npy",
    }


def test_a_run_that_was_stopped_goes_on_with_the_same_set(
    policy: Segmenter, pool: Dataset, tmp_path: Path
) -> None:
    before, scores, *_ = drawn(rounds(policy, pool, tmp_path), [1, 2], 2, 0)
    learn(policy)
    again, same_scores, *_ = drawn(rounds(policy, pool, tmp_path), [1, 2], 3, 1)
    assert same(again, before)
    np.testing.assert_array_equal(same_scores, scores)
    (tmp_path / "round-001.json").unlink()
    for epoch, step in ((3, 0), (2, 1)):
        with pytest.raises(SegprefError, match=r"round-001\.json is missing"):
            drawn(rounds(policy, pool, tmp_path), [1], epoch, step)


def test_a_set_that_was_stopped_half_way_is_made_again(
    policy: Segmenter, pool: Dataset, tmp_path: Path
) -> None:
    class Failing(OracleJudge):
        calls = 0

        def score(self, case: Case, slate: Slate) -> np.ndarray:
            self.calls += 1
            if self.calls == 8:
                raise KeyboardInterrupt
            return super().score(case, slate)

    with pytest.raises(KeyboardInterrupt):
        drawn(rounds(policy, pool, tmp_path, judge=Failing(pool.label_space)), [0], 0, 0)
    whole = drawn(rounds(policy, pool, tmp_path / "other"), [0, 9], 0, 0)
    again = drawn(rounds(policy, pool, tmp_path), [0, 9], 0, 0)
    assert same(again[0], whole[0])
    assert not list(tmp_path.glob("*.partial"))


def test_the_policy_of_the_round_can_be_its_reference(
    policy: Segmenter, pool: Dataset, tmp_path: Path
) -> None:
    made = rounds(policy, pool, tmp_path)
    drawn(made, [0], 0, 0)
    expected = policy.logits(torch.from_numpy(np.stack([pool[4].image, pool[1].image])))
    learn(policy)
    drawn(made, [0], 1, 0)
    torch.testing.assert_close(drawn(made, [4, 1], 1, 0).reference, expected)
    drawn(made, [0], 2, 0)
    assert not torch.allclose(drawn(made, [4, 1], 2, 0).reference, expected, atol=1e-2)


def test_labels_reach_only_a_judge_that_declares_them(
    policy: Segmenter, pool: Dataset, tmp_path: Path
) -> None:
    class Blind:
        needs_label = False

        def __init__(self, label_space: LabelSpace) -> None:
            self.label_space = label_space

        def score(self, case: Case, slate: Slate) -> np.ndarray:
            assert case.label is None
            scores = np.zeros((len(slate), self.label_space.fields))
            scores[0] = np.nan
            return scores

    _, scores, *_ = drawn(rounds(policy, pool, tmp_path, judge=Blind(pool.label_space)), [2], 0, 0)
    np.testing.assert_array_equal(scores[0].ravel(), [np.nan, 0, 0, 0, 0])


def test_a_round_has_an_epoch(policy: Segmenter, pool: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match="at least 1 epoch"):
        rounds(policy, pool, tmp_path, every=0)
