"""What a trained folder tells, with and without nnU-Net, and cases as it prepares them."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_workplace import Workplace, needs_nnunet

from segpref.policies import holds_model
from segpref.policies.nnunet import NnUNetPreparation, read_nnunet
from segpref.types import IGNORE, SegprefError


def made_folder(root: Path) -> Path:
    (root / "fold_0").mkdir(parents=True)
    (root / "plans.json").write_text("{}")
    (root / "dataset.json").write_text("{}")
    (root / "fold_0" / "checkpoint_final.pth").write_bytes(b"no checkpoint")
    return root


def test_trust_is_asked_for_before_anything_is_unpickled(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"unpickling runs whatever code .* add --trust"):
        read_nnunet(made_folder(tmp_path / "model"))


def test_a_fold_is_a_model_whatever_pictures_lie_in_it(tmp_path: Path) -> None:
    folder = made_folder(tmp_path / "model")
    (folder / "fold_0" / "progress.png").write_bytes(b"")
    assert holds_model(folder)
    assert holds_model(folder / "fold_0")
    predicted = tmp_path / "predicted"
    predicted.mkdir()
    for name in ("plans.json", "dataset.json", "fold_0.nii.gz"):
        (predicted / name).write_bytes(b"")
    assert not holds_model(predicted)


@pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is not None, reason="nnunetv2 is there")
def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"pip install 'segpref\[nnunet\]'"):
        read_nnunet(made_folder(tmp_path / "model"), trust=True)


@pytest.mark.parametrize(
    ("lacking", "options", "match"),
    [
        ("plans.json", {}, r"there is no .*plans\.json: name the folder TRAINER__PLANS__CONFIG"),
        ("dataset.json", {}, r"there is no .*dataset\.json"),
        ("fold_0/checkpoint_final.pth", {}, "has no fold with checkpoint_final"),
        ("", {"folds": [1]}, r"no fold_1/checkpoint_final\.pth: choose from the folds 0"),
        ("", {"checkpoint": "checkpoint_best.pth"}, "has no fold with checkpoint_best"),
    ],
)
def test_folders_that_are_not_whole(
    tmp_path: Path, lacking: str, options: dict[str, Any], match: str
) -> None:
    folder = made_folder(tmp_path / "model")
    if lacking:
        (folder / lacking).unlink()
    with pytest.raises(SegprefError, match=match):
        read_nnunet(folder, trust=True, **options)


@needs_nnunet
def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"checkpoint_final\.pth can't be opened"):
        read_nnunet(made_folder(tmp_path / "model"), trust=True)


@needs_nnunet
@pytest.mark.slow
def test_the_folder_tells_what_the_model_is(workplace: Workplace) -> None:
    folder = read_nnunet(workplace.trained("3d_fullres"), trust=True)
    assert folder.folds == ("0", "1")
    assert folder.trainer == "ShortTrainer"
    assert folder.mirroring == (0, 1, 2)
    assert folder.labelled == ("case1", "case2", "case3")
    assert replace(folder, folds=("1",)).labelled == ("case3",)
    assert replace(folder, folds=("all",)).labelled == ("case0", "case1", "case2", "case3")
    assert replace(folder, folds=("4",)).labelled is None
    assert folder.label_space == workplace.reader().label_space
    assert folder.channels == ("MRI",)
    assert folder.preparation.patch == (16, 16, 16)
    assert folder.preparation.spacing_mm == (1.5, 1.0, 1.0)
    flat = read_nnunet(workplace.trained("2d"), trust=True)
    assert (flat.preparation.dims, flat.preparation.patch) == (2, (16, 16))
    stored = json.loads(folder.card(("case0",)).to_json())
    assert NnUNetPreparation.from_key(stored["preparation"]) == folder.preparation
    with pytest.raises(SegprefError, match="no configuration '3d_lowres': choose from 2d"):
        _ = replace(folder, configuration="3d_lowres").preparation.patch


@needs_nnunet
@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_prepared_cases_are_those_of_nnunet(workplace: Workplace, configuration: str) -> None:
    preparation = read_nnunet(workplace.trained(configuration), trust=True).preparation
    reader, known = workplace.reader(), preparation.managers
    for source in reader.sources():
        preprocessor = known.configuration.preprocessor_class(verbose=False)
        label_file = str(source.labels[0]) if source.labels else None
        data, label, _ = preprocessor.run_case(
            [str(path) for path in source.images],
            label_file,
            known.plans,
            known.configuration,
            dict(preparation.dataset),
        )
        prepared = preparation.apply(reader.read(source))
        items = data.swapaxes(0, 1) if configuration == "2d" else data[None]
        np.testing.assert_array_equal(prepared.images, items)
        if label_file is None:
            assert prepared.labels is None
        else:
            items = label.swapaxes(0, 1) if configuration == "2d" else label[None]
            np.testing.assert_array_equal(prepared.labels, np.maximum(items, 0))


@needs_nnunet
@pytest.mark.slow
def test_ignored_voxels(workplace: Workplace) -> None:
    folder = read_nnunet(workplace.trained("3d_fullres"), trust=True)
    dataset = {**folder.dataset, "labels": {**folder.dataset["labels"], "ignore": 3}}
    reader = workplace.reader()
    case = reader.read(reader.sources()[0])
    assert case.label is not None
    label = case.label.copy()
    label[0, 5:7] = IGNORE
    found = replace(folder.preparation, dataset=dataset).apply(replace(case, label=label)).labels
    # This case has the model's voxel size, so nothing is resampled; two empty layers are cut off.
    np.testing.assert_array_equal(found, label[None, :, 2:].transpose(0, 1, 4, 3, 2))


@needs_nnunet
@pytest.mark.slow
def test_an_unknown_distance_between_slices(workplace: Workplace) -> None:
    reader = workplace.reader()
    case = reader.read(reader.sources()[0])
    assert case.spacing_mm is not None
    partly = replace(case, spacing_mm=(*case.spacing_mm[:2], np.nan))
    flat, deep = (
        read_nnunet(workplace.trained(name), trust=True).preparation
        for name in ("2d", "3d_fullres")
    )
    # Slices are not resampled along the axis that they are stacked on.
    np.testing.assert_array_equal(flat.apply(partly).images, flat.apply(case).images)
    with pytest.raises(SegprefError, match="states its voxel size along some axes only"):
        deep.apply(partly)
