"""Votes about whole volumes, and a model that sees patches of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from segpref.collect import Assignment, Rules, StudyFolder, VoteStore
from segpref.data import Folders, Preparation
from segpref.policies import ModelCard, NetworkSpec, save_model
from segpref.preferences import WholeSlates, content_id
from segpref.training import RunFolder
from segpref.types import LabelSpace, SegprefError
from segpref.workflows import align, erase_patient, export_votes, init_study
from vote_studies import vote_all, welcome

pytestmark = pytest.mark.slow

NAMES = ("background", "liver", "tumour")
UNET = {
    "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2],
    "num_res_units": 1, "dropout": 0.1,
}  # fmt: skip
SHORT = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "log_with": ()}


def volumes(folder: Path) -> Folders:
    """Ten volumes of three sizes, a ball in a ball."""
    rng = np.random.default_rng(0)
    for number in range(10):
        shape = np.array([18 + 2 * (number % 3), 16, 14])
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        distance = np.linalg.norm(grid - shape / 2 - rng.uniform(-2, 2, 3), axis=-1)
        label = ((distance < 6).astype(np.uint8) + (distance < 3)).astype(np.uint8)
        image = (label + rng.normal(0, 0.4, shape)).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / name / f"p{number}.nii.gz")
    return Folders(folder, names=NAMES)


def model(file: Path) -> Path:
    """A network with random weights that sees windows of 8 x 8 x 8."""
    torch.manual_seed(0)
    card = ModelCard(
        network=NetworkSpec("monai.networks.nets.UNet", UNET),
        label_space=LabelSpace("multi-class", NAMES),
        preparation=Preparation(dims=3, patch=(8, 8, 8)),
        labelled=("p0",),
    )
    save_model(file, card.network.build(), card)
    return file


def larger(given: Assignment) -> str:
    places = [mask.candidate for mask in given.masks]
    if len(places) == 1:
        return "accept" if places[0] % 2 else "reject"
    if len(places) == 4:
        return f"best-{int(np.argmax(places))}"
    return "left" if places[0] > places[1] else "right"


def voted(folder: Path, **options: Any) -> StudyFolder:
    base = model(folder / "base.safetensors")
    settings = {"images": 4, "candidates": 6, "practice": 1, "gold": 0.1, "pairs_per_image": 2}
    study = init_study(
        base, volumes(folder / "data"), out=folder / "study", cache=folder / "cache",
        **{**settings, **options},
    ).folder  # fmt: skip
    with VoteStore(study.database) as store:
        store.create(study.contents(), Rules(repeats=0.0))
        vote_all(store, welcome(store), larger)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return voted(tmp_path_factory.mktemp("patches"))


def run(study: StudyFolder, out: Path, **options: Any) -> RunFolder:
    folder = study.path.parent
    data = Folders(folder / "data", names=NAMES)
    settings = {"data": data, "votes": study.path, "cache": folder / "cache", **SHORT, **options}
    return align(out=out, **settings).runs[""]


def test_people_see_whole_volumes_and_the_model_learns_in_patches(
    study: StudyFolder, tmp_path: Path
) -> None:
    kept, contents = WholeSlates(study.slates), study.contents()
    slates = [kept.sparse(place).whole() for place in range(len(kept.cases))]
    assert len({slate.masks.shape for slate in slates}) > 1
    asked = {mask.prepared_id for mask in contents.masks}
    assert len(asked & {content_id(mask) for slate in slates for mask in slate.masks}) > 2
    assert any(pair.use == "gold" for pair in contents.pairs)
    made = run(study, tmp_path / "run")
    rows = made.read_metrics()
    assert [row["skipped_elsewhere"] for row in rows[1:]] == [0, 0]
    # Patches are drawn around voxels in which voted masks differ, most of them.
    assert rows[1]["images_with_pair"] + rows[2]["images_with_pair"] > 0.5
    assert made.read_summary()["votes"]["held out"] > 0
    assert rows[0]["val_votes"] == 0.5
    again = run(study, tmp_path / "again")
    one, other = load_file(made.last), load_file(again.last)
    assert all(torch.equal(one[name], other[name]) for name in one)
    start = load_file(study.base)
    assert any(not torch.equal(one[name], start[name]) for name in start)


@pytest.mark.parametrize("mode", ["best-of-four", "accept-reject"])
def test_other_modes(mode: Any, tmp_path: Path) -> None:
    other = voted(tmp_path, mode=mode, candidates=12, least_voxels=2)
    made = run(other, tmp_path / "run")
    rows = made.read_metrics()[1:]
    assert [row["skipped_elsewhere"] for row in rows] == [0, 0]
    assert sum(row["images_with_pair"] for row in rows) > 0


def test_votes_choose_the_checkpoint_and_travel_in_files(
    study: StudyFolder, tmp_path: Path
) -> None:
    shutil.copytree(study.path, tmp_path / "study")
    split = json.loads((tmp_path / "study" / "split.json").read_text())
    split["train"] += split.pop("validation")
    (tmp_path / "study" / "split.json").write_text(json.dumps({**split, "validation": []}))
    unlabelled = StudyFolder(tmp_path / "study")
    made = run(study, tmp_path / "run", votes=unlabelled.path)
    assert "val_votes_peak" in made.read_summary()
    export_votes(study.path, tmp_path / "exported")
    for name, votes in {
        "file": tmp_path / "exported",
        "both": [study.path, unlabelled.path],
    }.items():
        found = run(study, tmp_path / name, votes=votes)
        assert [row["skipped_elsewhere"] for row in found.read_metrics()[1:]] == [0, 0]


def test_a_patient_is_erased_from_a_set_of_whole_masks(study: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(study.path, tmp_path / "study")
    copy = StudyFolder(tmp_path / "study")
    before = copy.train_cases
    patient = next(one.patient for one in copy.contents().items if one.case == before[0])
    assert erase_patient(copy.path, patient, "asked for it").images == 1
    assert StudyFolder(copy.path).train_cases == before[1:]
    found = run(study, tmp_path / "run", votes=copy.path, epochs=1)
    assert found.read_metrics()[1]["skipped_elsewhere"] == 0


def test_masks_of_patches_lie_nowhere_in_an_image(study: StudyFolder, tmp_path: Path) -> None:
    folder = study.path.parent
    base, data = folder / "base.safetensors", Folders(folder / "data", names=NAMES)
    settings = {"cache": folder / "cache", **SHORT, "candidates": 6}
    judged = align(
        base, data, judge="oracle", out=tmp_path / "judged", write_preferences=True, **settings
    ).runs[""]
    with pytest.raises(SegprefError, match="learns from masks of whole images"):
        align(base, data, votes=judged.path / "preferences", out=tmp_path / "again", **settings)
