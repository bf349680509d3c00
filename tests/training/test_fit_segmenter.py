"""Stage 1 of a segmenter: it learns, repeats and resumes bit by bit, and names what it can't use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from segpref.data import Dataset, Preparation
from segpref.policies import ModelCard, NetworkSpec
from segpref.training import RunFolder, fit
from segpref.types import SegprefError


@pytest.mark.slow
def test_fitting_learns_and_repeats_bit_by_bit(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path
) -> None:
    patients = hearts.patients
    card = ModelCard(tiny_unet(4, (8, 16)), hearts.label_space, Preparation(dims=2, size=(32, 32)))
    finals = []
    for name in ("one", "two"):
        folder = RunFolder(tmp_path / name)
        folder.open({}, resume=False)
        torch.manual_seed(len(finals))
        summary = fit(
            hearts.of_patients(patients[:4]), hearts.of_patients(patients[8:]), card, folder,
            epochs=12, images_per_epoch=32, learning_rate=2e-2, seed=5, augment="none",
        )  # fmt: skip
        finals.append(folder.last.read_bytes())
    assert finals[0] == finals[1]
    history = folder.read_metrics()
    assert history[-1]["train_loss"] < 0.7 * history[1]["train_loss"]
    assert summary["val_iou"] > 0.1 > 2 * history[0]["val_iou"]
    assert summary["labelled_cases"] == 16
    assert history[summary["best_epoch"]]["val_iou"] == summary["val_iou"]


def test_fitting_needs_labels_and_validation(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path
) -> None:
    card = ModelCard(tiny_unet(4), hearts.label_space, Preparation(dims=2, size=(32, 32)))
    folder = RunFolder(tmp_path)
    with pytest.raises(SegprefError, match="has a label"):
        fit(hearts.without_labels(), hearts, card, folder)
    with pytest.raises(SegprefError, match="no validation image"):
        fit(hearts, hearts.take([]), card, folder)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_fitting_tells_of_sizes_that_the_network_can_not_halve(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path, dropout: float
) -> None:
    cut = [replace(v, images=v.images[..., :21, :19], labels=v.labels[..., :21, :19])
           for v in hearts.volumes]  # fmt: skip
    odd = Dataset(cut, hearts.label_space)
    card = ModelCard(tiny_unet(4, (4, 8, 8)), hearts.label_space, Preparation(dims=2))
    with pytest.raises(
        SegprefError, match=r"can't learn from images of 21 x 19 voxels.*a patch, or"
    ):
        fit(
            odd.of_patients(odd.patients[:2]), odd.of_patients(odd.patients[8:]), card,
            RunFolder(tmp_path), epochs=1, augment="none", dropout=dropout,
        )  # fmt: skip


@pytest.mark.slow
def test_a_resumed_fit_with_augmentation_and_dropout_gives_the_same_bits(
    hearts: Dataset, tiny_unet: Callable[..., NetworkSpec], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    card = ModelCard(tiny_unet(4), hearts.label_space, Preparation(dims=2, size=(32, 32)))
    labelled, validation = hearts.take(range(10)), hearts.take([40, 41])

    def go(name: str) -> RunFolder:
        folder = RunFolder(tmp_path / name)
        folder.open({}, resume=True)
        fit(labelled, validation, card, folder, epochs=2, batch_size=4, checkpoint_seconds=0)
        return folder

    whole = go("whole")
    import segpref.training.tasks.supervised as module

    original, calls = module.augmented_batch, [0]

    def stops(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] in (2, 5):
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "augmented_batch", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            go("part")
    part = go("part")
    assert part.last.read_bytes() == whole.last.read_bytes()
    assert part.metrics.read_bytes() == whole.metrics.read_bytes()
