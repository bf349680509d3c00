"""Masks on disk as a judge: the same opinions as the labels that they are copies of."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segpref.data import (
    Cache,
    Dataset,
    Folders,
    LabelPlaces,
    MaskFolder,
    PatchDraw,
    Preparation,
    Reader,
    open_dataset,
)
from segpref.data import prepare as prepared
from segpref.data.phantoms import write_phantoms
from segpref.judges import MasksJudge, OracleJudge
from segpref.types import Candidate, Case, SegprefError, Slate

INPUT = Preparation(dims=2, size=(32, 32))


@pytest.fixture
def labels(heart_folder: Path, tmp_path: Path) -> Path:
    """The labels of the hearts as if another program had made them."""
    folder = tmp_path / "masks"
    shutil.copytree(heart_folder / "labels", folder)
    return folder


def judge_of(
    folder: Path, reader: Reader, dataset: Dataset, store: Cache, preparation: Preparation = INPUT
) -> MasksJudge:
    masks = MaskFolder(folder, [reader], dataset.label_space, preparation, store)
    judge = MasksJudge(masks)
    judge.prepare(dataset)
    return judge


def changed(case: Case, fields: int) -> Slate:
    """The label itself, and what is wrong in one way or the other."""
    assert case.label is not None
    label = np.asarray(case.label)
    known = np.where(label == 255, 0, label)
    masks = [known, np.roll(known, 2, axis=-1), np.zeros_like(known), np.flip(known, -2)]
    return Slate(np.stack(masks), tuple(Candidate(str(number)) for number in range(len(masks))))


def assert_like_the_oracle(judge: MasksJudge, cases: Sequence[Case], dataset: Dataset) -> None:
    oracle = OracleJudge(dataset.label_space)
    for case in cases:
        slate = changed(case, dataset.label_space.fields)
        said = judge.score(replace(case, label=None), slate)
        np.testing.assert_array_equal(said, oracle.score(case, slate))
        assert (said[0] == 1).all()


def test_copies_of_the_labels_say_what_the_oracle_says(
    labels: Path, heart_reader: Reader, hearts: Dataset, store: Cache
) -> None:
    judge = judge_of(labels, heart_reader, hearts, store)
    judge.require(hearts)
    assert not judge.needs_label
    assert_like_the_oracle(judge, hearts[:12], hearts)


def test_without_a_mask_the_judge_abstains(
    labels: Path,
    heart_reader: Reader,
    hearts: Dataset,
    store: Cache,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = hearts[0]
    next(labels.glob(f"{first.volume}.*")).unlink()
    judge = judge_of(labels, heart_reader, hearts, store)
    slate = changed(first, 1)
    assert np.isnan(judge.score(first, slate)).all()
    assert not np.isnan(judge.score(hearts[5], changed(hearts[5], 1))).any()
    judge.require(hearts)
    assert f"no mask of 1 of {len(hearts.by_volume())} images, such as {first.volume}" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(SegprefError, match=rf"of none of the 1 images.*{first.volume}"):
        judge.require(hearts.take([0]))


def test_structures_have_files_of_their_own(tmp_path: Path, store: Cache) -> None:
    data = write_phantoms(tmp_path / "data", "chest", (48, 48), 3, seed=0)
    reader = open_dataset(data)
    dataset = prepared(reader, INPUT, store)
    folder, names = tmp_path / "masks", dataset.label_space.names
    folder.mkdir()
    for name in names[1:]:
        for file in (data / "masks" / name).iterdir():
            known = name.replace(" ", "_")
            shutil.copy(file, folder / f"{file.stem}_{known}{file.suffix}")
    judge = judge_of(folder, reader, dataset, store)
    oracle = OracleJudge(dataset.label_space)
    for case in dataset:
        slate = changed(case, len(names))
        said = judge.score(case, slate)
        assert np.isnan(said[:, 0]).all()
        np.testing.assert_array_equal(said[:, 1:], oracle.score(case, slate)[:, 1:])


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(dims=3, spacing_mm=(1.0, 1.0, 1.0), patch=(16, 16, 8)),
        Preparation(dims=2, crop=(24, 16), size=(12, 8)),
    ],
    ids=["patches", "slices"],
)
def test_patches_and_slices_are_cut_from_the_masks(
    preparation: Preparation, tmp_path: Path, store: Cache
) -> None:
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(20, 12, 6), (9, 30, 10)]):
        image = rng.normal(size=shape).astype(np.float32)
        label = (rng.random(shape) > 0.7).astype(np.uint8)
        for kind, array in (("images", image), ("labels", label)):
            path = tmp_path / "data" / kind / f"v{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([2.0, 1.0, 1.0, 1.0])), path)
    reader = Folders(tmp_path / "data", names=("background", "ball"))
    dataset = prepared(reader, preparation, store)
    judge = judge_of(tmp_path / "data" / "labels", reader, dataset, store, preparation)
    cases = list(dataset)
    if preparation.patch is not None:
        draw = PatchDraw(preparation, LabelPlaces(dataset.label_space))
        cases = draw(cases * 4, range(8), 0)
        assert any(patch.window is not None for patch in cases)
    assert len(cases) == (16 if preparation.dims == 2 else 8)
    assert_like_the_oracle(judge, cases, dataset)


def test_what_is_wrong_with_masks_is_one_sentence(
    labels: Path, heart_reader: Reader, hearts: Dataset, store: Cache, tmp_path: Path
) -> None:
    file = next(labels.glob(f"{hearts[0].volume}.*"))
    good = nib.load(file)
    array = np.asarray(good.dataobj).astype(np.uint8)

    def broken(values: np.ndarray, affine: np.ndarray, words: str) -> None:
        nib.save(nib.Nifti1Image(values, affine), file)
        with pytest.raises(SegprefError, match=words):
            judge_of(labels, heart_reader, hearts, store)

    broken(array[:-1], good.affine, rf"{file.name} has 47 x 48.* pixels but its image .*one grid")
    broken(array, good.affine + np.eye(4), r"is not aligned with its image")
    broken(array + np.uint8(9), good.affine, r"holds the label value 9")
    nib.save(good, file)
    shutil.copy(file, file.with_name(file.name.removesuffix(".gz")))
    with pytest.raises(SegprefError, match=r"are masks of one image: remove one"):
        judge_of(labels, heart_reader, hearts, store)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SegprefError, match=r"no mask of any image: name them .*\.nii\.gz"):
        judge_of(empty, heart_reader, hearts, store)
