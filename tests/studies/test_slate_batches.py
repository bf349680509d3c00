"""How slates are batched, and that an audit keeps none of them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import segpref.studies.auditing as auditing
import segpref.studies.slates as slates
from segpref.data import Cache, Dataset, Preparation, Volume
from segpref.inference import whole_images
from segpref.judges import OracleJudge
from segpref.metrics import flip_curves, slate_iou
from segpref.policies import ModelCard, Segmenter, load_model
from segpref.preferences import ScoredSlate, TopVsRandom
from segpref.proposals import SlateProposals
from segpref.seeds import derive_seed
from segpref.studies import audit, patch_draw, patch_slates, scored_slates
from segpref.types import IGNORE

PATCHED = Preparation(dims=2, patch=(16, 16))


@pytest.fixture(scope="module")
def card(heart_base: Path) -> ModelCard:
    return replace(load_model(heart_base)[1], preparation=PATCHED)


@pytest.fixture(scope="module")
def several(unseen: Dataset) -> Dataset:
    """The same images, cut to three sizes."""

    def cut(number: int, volume: Volume) -> Volume:
        assert volume.labels is not None
        size = 32 - 4 * (number % 3)
        images, labels = volume.images[:, :, :size], volume.labels[:, :, :size]
        return replace(volume, images=images, labels=labels, key={**volume.key, "size": size})

    own = [volume for volume, _ in unseen.by_volume()]
    return Dataset([cut(*one) for one in enumerate(own)], unseen.label_space)


def masks(found: Iterator[ScoredSlate]) -> list[np.ndarray]:
    return [one.slate.masks for one in found]


@pytest.mark.slow
def test_images_of_several_sizes_go_one_by_one(policy: Segmenter, several: Dataset) -> None:
    whole, oracle = whole_images([policy], PATCHED), OracleJudge(several.label_space)
    found = [
        masks(scored_slates(whole, several, oracle, SlateProposals(8), 3, size)) for size in (1, 8)
    ]
    assert [one.shape[2:] for one in found[0]] == [case.image.shape[1:] for case in several]
    assert len({one.shape for one in found[0]}) == 3
    for alone, batched in zip(*found, strict=True):
        np.testing.assert_array_equal(alone, batched)


def test_images_of_one_size_keep_their_seeds(policy: Segmenter, unseen: Dataset) -> None:
    proposals, oracle = SlateProposals(8), OracleJudge(unseen.label_space)
    found = masks(scored_slates(policy, unseen, oracle, proposals, seed=3))
    for start in (0, 8):
        cases = unseen[start : start + 8]
        images = torch.from_numpy(np.stack([case.image for case in cases]))
        state = policy.forward(images)
        made = proposals(policy, state, images, cases, derive_seed(3, start))
        for one, expected in zip(found[start : start + 8], made, strict=True):
            np.testing.assert_array_equal(one, expected.masks)


def test_large_images_go_one_by_one(
    policy: Segmenter, unseen: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def noted(images: torch.Tensor) -> Any:
        seen.append(len(images))
        return forward(images)

    forward = policy.forward
    monkeypatch.setattr(policy, "forward", noted)
    for voxels, expected in ((10, {1}), (3 * 32 * 32, {3, len(unseen) % 3} - {0})):
        seen.clear()
        monkeypatch.setattr(slates, "_VOXELS", voxels)
        list(scored_slates(policy, unseen, OracleJudge(unseen.label_space), SlateProposals(2), 0))
        assert set(seen) == expected


@pytest.mark.slow
def test_an_audit_keeps_no_slate(
    policy: Segmenter, unseen: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[weakref.ref[np.ndarray]] = []
    most = 0

    def noted(*args: Any) -> Iterator[ScoredSlate]:
        nonlocal most
        for one in scored_slates(*args):
            known.append(weakref.ref(one.slate.masks))
            most = max(most, sum(mask() is not None for mask in known))
            yield one
            del one

    monkeypatch.setattr(slates, "_VOXELS", 1)
    monkeypatch.setattr(auditing, "scored_slates", noted)
    oracle = OracleJudge(unseen.label_space)
    found = audit(policy, unseen, oracle, TopVsRandom(), SlateProposals(8))
    assert len(known) == len(unseen) > 8
    assert most == 1
    # What is told of the masks is the same.
    kept = list(scored_slates(policy, unseen, oracle, SlateProposals(8), 0))
    truth = [
        slate_iou(one.slate.masks, np.asarray(one.case.label), unseen.label_space) for one in kept
    ]
    scores, shown = [one.scores for one in kept], [one.slate.masks for one in kept]
    assert found.flips == flip_curves(scores, truth, shown, 0)


@pytest.mark.slow
def test_patches_are_drawn_as_in_training(
    policy: Segmenter, card: ModelCard, several: Dataset, store: Cache
) -> None:
    patches = patch_draw(policy, card, several, store)
    assert patches is not None
    oracle = OracleJudge(several.label_space)
    first, again, other = (
        list(patch_slates(policy, several, oracle, SlateProposals(8), patches, seed, count=3))
        for seed in (0, 0, 1)
    )
    assert len(first) == 3 * len(several)
    assert {one.case.image.shape[1:] for one in first} == {(16, 16)}
    assert {one.case.id for one in first} == {case.id for case in several}
    assert [one.case.window for one in first] == [one.case.window for one in again]
    assert [one.case.window for one in first] != [one.case.window for one in other]
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.slate.masks, same.slate.masks)
        assert one.case.label is not None
        truth = slate_iou(one.slate.masks, one.case.label, several.label_space)
        np.testing.assert_array_equal(one.scores, truth)
    # Most of them are of what the policy predicts.
    held = [bool(((one.slate.masks > 0) & (one.slate.masks < IGNORE)).any()) for one in first]
    assert np.mean(held) > 0.6
    mirrored = patch_draw(policy, replace(card, mirroring=(1,)), several, store)
    assert mirrored is not None
    seen = patch_slates(policy, several, oracle, SlateProposals(8), mirrored, 0, count=3)
    assert {one.case.window.mirrored for one in seen if one.case.window} == {(), (1,)}
    whole = replace(card, preparation=Preparation(dims=2, size=(32, 32)))
    assert patch_draw(policy, whole, several, store) is None


def test_an_audit_on_patches_measures_more_slates(
    policy: Segmenter, card: ModelCard, several: Dataset, store: Cache
) -> None:
    patches = patch_draw(policy, card, several, store)
    oracle = OracleJudge(several.label_space)
    found = audit(policy, several, oracle, TopVsRandom(), SlateProposals(8), patches=patches)
    assert found.judge.slates > 4 * len(several)
    assert found.judge.pair_flip == 0
