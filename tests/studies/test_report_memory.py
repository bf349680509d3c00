"""What a report needs beyond the masks that it shows: little, however large the volume."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segpref.data import Dataset, Preparation
from segpref.judges import OracleJudge
from segpref.metrics import pairwise_dice, pixel_variance
from segpref.policies import ModelCard, load_model, read_card, save_model
from segpref.proposals import SlateProposals
from segpref.report import Overlay, SlatePicture, overlay_pictures, slate_tiles, variance_pictures
from segpref.studies import alignment_report
from segpref.training import RunFolder
from segpref.types import Candidate, Case, LabelSpace, Slate

SPACE = LabelSpace("multi-class", ("background", "rind", "core"))
GRID, COUNT = (80, 80, 60), 32


@pytest.fixture(scope="module")
def balls() -> np.ndarray:
    """Masks ``[K, field, *space]`` of balls that grow."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in GRID), indexing="ij")
    distance = np.linalg.norm(axes, axis=0)
    sizes = np.linspace(0.4, 0.8, COUNT)
    return np.stack([(distance < r).astype(np.uint8) + (distance < r / 2) for r in sizes])[:, None]


def bytes_per_voxel(act: Callable[[], Any]) -> float:
    """At the highest, besides what was there before; the first call loads fonts."""
    act()
    tracemalloc.start()
    act()
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return highest / np.prod(GRID)


@pytest.mark.slow
def test_the_pictures_of_a_slate(balls: np.ndarray) -> None:
    shown = SlatePicture(
        name="a",
        image=np.random.default_rng(0).random((1, *GRID), np.float32),
        slate=Slate(balls, tuple(Candidate(str(k)) for k in range(COUNT))),
        scores=np.linspace(0, 1, COUNT),
        label_space=SPACE,
        pair=(31, 3),
    )
    assert bytes_per_voxel(lambda: slate_tiles(shown)) < 40
    assert bytes_per_voxel(lambda: variance_pictures([shown])) < 40


def test_outlines_before_and_after(balls: np.ndarray) -> None:
    image = np.random.default_rng(0).random((1, *GRID), np.float32)
    shown = Overlay(
        name="a", image=image, masks={"base": balls[0], "tuned": balls[9]}, label_space=SPACE,
        truth=balls[5],
    )  # fmt: skip
    assert bytes_per_voxel(lambda: overlay_pictures([shown])) < 25


def test_measures_of_diversity(balls: np.ndarray) -> None:
    assert bytes_per_voxel(lambda: pairwise_dice(balls, SPACE)) < 25
    assert bytes_per_voxel(lambda: pixel_variance(balls, SPACE)) < 50


@pytest.mark.slow
def test_the_slate_of_a_model_that_sees_patches_is_of_a_patch(
    heart_base: Path, hearts: Dataset, tmp_path: Path
) -> None:
    class Noting(OracleJudge):
        cases: list[Case] = []  # noqa: RUF012

        def score(self, case: Case, slate: Slate) -> np.ndarray:
            self.cases.append(case)
            return super().score(case, slate)

    model, card = load_model(heart_base)[0], read_card(heart_base)
    patched = ModelCard(card.network, card.label_space, Preparation(dims=2, patch=(16, 16)))
    folder = RunFolder(tmp_path)
    for file in (tmp_path / "base.safetensors", folder.best):
        save_model(file, model.network, patched)
    row = {"val_iou": 0.5, "epoch": 0.0}
    folder.write_metrics([row, {**row, "epoch": 1.0}])
    judge, cases = Noting(hearts.label_space), hearts.of_patients(hearts.patients[8:])
    report = alignment_report(
        folder, tmp_path / "base.safetensors", cases, judge, SlateProposals(8), count=1
    )
    (case, *_) = judge.cases
    assert case.image.shape == (1, 16, 16)
    assert case.label is not None
    assert ((case.label > 0) & (case.label < 255)).any()
    text = report.read_text()
    assert f"candidate masks of a patch of {case.id}" in text
    assert text.count("<img") >= 8
