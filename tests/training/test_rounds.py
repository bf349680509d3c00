"""Preference sets that stand for several epochs."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flips import flip
from segpref.data import Dataset
from segpref.judges import OracleJudge
from segpref.policies import Segmenter, SegmenterState, load_model
from segpref.proposals import LargestComponent, LogitBias, SlateProposals
from segpref.training import PreferenceRounds, ScoredSlates
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


# Disks that are full, and files that are not what was written ----------------------------------


def test_a_full_disk_is_one_sentence(policy: Segmenter, pool: Dataset, tmp_path: Path) -> None:
    made = rounds(policy, pool, tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # Python ignores the signal, so that the write fails as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(SegprefError, match=r"can't be written \(File too large\)") as caught:
            drawn(made, [0], 0, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.partial")), "what is half-written may be what fills the disk"
    assert same(
        drawn(made, [0], 0, 0).slates, drawn(rounds(policy, pool, tmp_path), [0], 0, 0).slates
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_left_says_so(
    policy: Segmenter, pool: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(number, os.strerror(number))

    opened = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        return (
            Full()
            if "w" in mode and self.suffix == ".partial"
            else opened(self, mode, *args, **options)
        )

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(SegprefError, match="free some space on that disk") as caught:
        drawn(rounds(policy, pool, tmp_path), [0], 0, 0)
    assert os.strerror(number) in str(caught.value)


def _cut(policy: Segmenter, pool: Dataset, folder: Path, said: Any) -> None:
    made = rounds(policy, pool, folder)
    drawn(made, [0], 0, 0)
    os.truncate(folder / "round-000.masks.npy", 5000)
    try:
        drawn(made, [11], 0, 1)
    except SegprefError as error:
        said.put(str(error))


def test_a_file_that_is_cut_while_in_use_is_one_sentence(
    policy: Segmenter, pool: Dataset, tmp_path: Path
) -> None:
    # Mapped into memory, it would end the process by a signal.
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    process = context.Process(target=_cut, args=(policy, pool, tmp_path, said))
    process.start()
    process.join()
    assert process.exitcode == 0
    sentence = said.get()
    assert "round-000.masks.npy is not what was written" in sentence
    assert "start the run again in another folder" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("kind", ["json", "masks.npy", "logits.npy"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_flipped_bit_in_a_set_is_refused(
    policy: Segmenter, pool: Dataset, tmp_path: Path, kind: str, share: float
) -> None:
    drawn(rounds(policy, pool, tmp_path), [0], 0, 0)
    path = tmp_path / f"round-000.{kind}"
    flip(path, share)
    with pytest.raises(SegprefError, match="is not what was written") as caught:
        drawn(rounds(policy, pool, tmp_path), [0], 1, 0)
    assert str(path) in str(caught.value)
