"""Stage 2 gives the same bits again: without the labels of its pool, repeated, stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from short_align import POOL, run

from segpref.data import Cache, Dataset, Folders, Preparation, Reader, prepare
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.judges import ModelJudge
from segpref.policies import load_model
from segpref.training import RunFolder, StrongAugmentation
from segpref.types import Case, Slate


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    heart_base: Path,
    heart_judge: Path,
    hearts: Dataset,
    store: Cache,
) -> RunFolder:
    judge = ModelJudge(load_model(heart_judge)[0], store)
    return run(tmp_path_factory.mktemp("align") / "run", heart_base, hearts, judge, store)


# The labels of the pool ----------------------------------------------------------------------


def changed_labels(folder: Path, target: Path, patients: set[str], how: str) -> Reader:
    """The same images; the labels of some patients are gone, or noise."""
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.nii.gz")):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        theirs = path.parent.name == "labels" and path.name.split("_")[0] in patients
        if not theirs:
            copy.write_bytes(path.read_bytes())
        elif how == "scrambled":
            image = nib.load(path)
            noise = rng.integers(0, 4, image.shape).astype(np.uint8)
            nib.save(nib.Nifti1Image(noise, image.affine), copy)
    return Folders(target, names=("background", "RV", "MYO", "LV"), patient_pattern=PATIENT_PATTERN)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["absent", "scrambled"])
def test_labels_of_the_pool_do_not_reach_the_weights(
    how: str,
    undisturbed: RunFolder,
    heart_folder: Path,
    heart_base: Path,
    heart_judge: Path,
    hearts: Dataset,
    tmp_path: Path,
) -> None:
    patients = set(hearts.patients[POOL])
    reader = changed_labels(heart_folder, tmp_path / "data", patients, how)
    cache = Cache(tmp_path / "store")
    other = prepare(reader, Preparation(dims=2, size=(32, 32)), cache)
    pool = other.of_patients(sorted(patients))
    if how == "absent":
        assert all(one.label is None for one in pool)
    else:
        assert not np.array_equal(pool[0].label, hearts.of_patients(pool.patients)[0].label)
    judge = ModelJudge(load_model(heart_judge)[0], cache)
    again = run(tmp_path / "run", heart_base, other, judge, cache)
    for file in ("last", "best"):
        assert getattr(again, file).read_bytes() == getattr(undisturbed, file).read_bytes()
    # Figures that need the truth are there only where there is one.
    assert "pair_flip" in undisturbed.read_metrics()[1]
    assert ("pair_flip" in again.read_metrics()[1]) == (how == "scrambled")


class Spy:
    """Scores by size, and notes whether it was shown labels."""

    def __init__(self, needs_label: bool) -> None:
        self.needs_label, self.shown = needs_label, []  # type: ignore[var-annotated]

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        self.shown.append(case.label is not None)
        return (slate.masks > 0).mean(axis=tuple(range(2, slate.masks.ndim)))


@pytest.mark.parametrize("needs_label", [True, False])
def test_only_a_judge_that_asks_is_shown_labels(
    needs_label: bool, heart_base: Path, hearts: Dataset, store: Cache, tmp_path: Path
) -> None:
    judge = Spy(needs_label)
    run(tmp_path / "run", heart_base, hearts, judge, store, epochs=1)
    assert judge.shown == [needs_label] * 8


# Repetitions ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_can_be_repeated_bit_by_bit(
    undisturbed: RunFolder, heart_base: Path, hearts: Dataset, model_judge: ModelJudge,
    store: Cache, tmp_path: Path,
) -> None:  # fmt: skip
    torch.manual_seed(99)
    np.random.default_rng(99)
    again = run(tmp_path / "again", heart_base, hearts, model_judge, store)
    assert again.last.read_bytes() == undisturbed.last.read_bytes()
    assert again.metrics.read_bytes() == undisturbed.metrics.read_bytes()
    other = run(tmp_path / "other", heart_base, hearts, model_judge, store, seed=4)
    assert other.last.read_bytes() != undisturbed.last.read_bytes()


def test_a_finished_run_is_not_run_again(
    undisturbed: RunFolder, heart_base: Path, hearts: Dataset, model_judge: ModelJudge,
    store: Cache,
) -> None:  # fmt: skip
    files = {path: path.stat().st_mtime_ns for path in undisturbed.path.rglob("*")}
    summary = undisturbed.read_summary()
    again = run(undisturbed.path, heart_base, hearts, model_judge, store, resume=True)
    assert again.read_summary() == summary
    assert {path: path.stat().st_mtime_ns for path in again.path.rglob("*")} == files


def test_the_summary_agrees_with_the_curve(undisturbed: RunFolder) -> None:
    history, summary = undisturbed.read_metrics(), undisturbed.read_summary()
    assert summary["val_iou_base"] == history[0]["val_iou"]
    assert summary["val_iou_peak"] == max(row["val_iou"] for row in history[1:])
    assert history[summary["peak_epoch"]]["val_iou"] == summary["val_iou_peak"]
    assert summary["pool_cases"] == 16
    assert (undisturbed.path / "tensorboard").is_dir()


# Interruptions ---------------------------------------------------------------------------------


class Stops(ModelJudge):
    """A judge that breaks off after so many slates."""

    left = 0

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().score(case, slate)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
@pytest.mark.parametrize(
    "options", [{}, {"view": StrongAugmentation(), "average": 0.9}], ids=["plain", "view, average"]
)
def test_a_run_that_was_stopped_continues_to_the_same_bits(
    checkpoint_seconds: float, options: dict[str, Any], heart_base: Path, heart_judge: Path,
    hearts: Dataset, store: Cache, tmp_path: Path,
) -> None:  # fmt: skip
    judge = Stops(load_model(heart_judge)[0], store)
    judge.left = 99
    undisturbed = run(tmp_path / "whole", heart_base, hearts, judge, store, **options)
    for scored in (2, 5, 9):
        judge.left = scored
        with pytest.raises(KeyboardInterrupt):
            run(
                tmp_path / "run", heart_base, hearts, judge, store,
                resume=True, checkpoint_seconds=checkpoint_seconds, **options,
            )  # fmt: skip
    judge.left = 99
    again = run(tmp_path / "run", heart_base, hearts, judge, store, resume=True, **options)
    assert again.last.read_bytes() == undisturbed.last.read_bytes()
    assert again.best.read_bytes() == undisturbed.best.read_bytes()
    assert again.metrics.read_bytes() == undisturbed.metrics.read_bytes()
