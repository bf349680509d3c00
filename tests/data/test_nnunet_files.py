"""nnU-Net datasets that name their files one by one, and TIFF stacks with voxel sizes beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from written import description, grey, labels, nifti

from segpref.data import Cache, NnUNetRaw, Preparation, open_dataset, prepare
from segpref.types import SegprefError

NAMES = {"background": 0, "liver": 1}
SHAPE = (4, 5, 6)


def described(root: Path, cases: Any, channels: int = 1, ending: str = ".nii.gz") -> Path:
    root.mkdir(exist_ok=True)
    named = {str(number): f"c{number}" for number in range(channels)}
    description(root, channel_names=named, labels=NAMES, file_ending=ending, dataset=cases)
    return root


def test_cases_are_named_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE", str(tmp_path / "elsewhere"))
    for number in range(2):
        nifti(tmp_path / "elsewhere" / f"scan{number}.nii.gz", grey(SHAPE, number))
    nifti(tmp_path / "data" / "masks" / "any.nii.gz", labels(SHAPE, 2))
    nifti(tmp_path / "data" / "imagesTr" / "old_0000.nii.gz", grey(SHAPE))  # which does not count
    nifti(tmp_path / "data" / "imagesTs" / "new_0000.nii.gz", grey(SHAPE, 7))
    nifti(tmp_path / "data" / "imagesTs" / "new_0001.nii.gz", grey(SHAPE, 8))
    images = ["../elsewhere/scan0.nii.gz", "$ARCHIVE/scan1.nii.gz"]
    cases = {"p1_first": {"images": images, "label": str(tmp_path / "data/masks/any.nii.gz")}}
    reader = open_dataset(described(tmp_path / "data", cases, 2), patient_pattern="^(p[0-9]+|new)")
    assert isinstance(reader, NnUNetRaw)
    assert [(one.id, one.patient) for one in reader.sources()] == [
        ("new", "new"),
        ("p1_first", "p1"),
    ]
    bare, case = (reader.read(source) for source in reader.sources())
    assert bare.label is None
    assert np.array_equal(case.image, np.stack([grey(SHAPE, 0), grey(SHAPE, 1)]))
    assert case.label is not None
    assert np.array_equal(case.label[0], labels(SHAPE, 2))


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ([], '"dataset" entry'),
        ({"a": "a.nii.gz"}, "\"dataset\" entry 'a' without a list"),
        ({"a": {"images": [], "label": "a.nii.gz"}}, "without a list"),
        ({"a": {"images": "a.nii.gz"}}, "without a list"),
        ({"a": {"images": ["a.nii.gz"], "label": 3}}, "without a list"),
        ({"a": {"images": ["gone.nii.gz"]}}, "gone.nii.gz is missing but"),
        ({"a": {"images": ["a.nii.gz"], "label": "gone.nii.gz"}}, "gone.nii.gz is missing but"),
        ({"a": {"images": ["a.nii.gz", "a.nii.gz"]}}, "names 2 images of 'a'.*and 1 channels"),
    ],
)
def test_entries_that_are_none(tmp_path: Path, cases: Any, said: str) -> None:
    nifti(tmp_path / "a.nii.gz", grey(SHAPE))
    with pytest.raises(SegprefError, match=said):
        NnUNetRaw(described(tmp_path, cases))


def stacks(root: Path, images: Any = None, masks: Any = None) -> Path:
    named = {"0": "image"}
    root.mkdir(exist_ok=True)
    description(root, channel_names=named, labels=NAMES, file_ending=".tif")
    for place, name, array in (
        ("imagesTr", "a_0000.tif", grey(SHAPE)),
        ("labelsTr", "a.tif", labels(SHAPE, 2)),
    ):
        (root / place).mkdir(exist_ok=True)
        tifffile.imwrite(root / place / name, array, photometric="minisblack")
    for place, content in (("imagesTr", images), ("labelsTr", masks)):
        if content is not None:
            (root / place / "a.json").write_text(json.dumps(content))
    return root


def test_voxel_sizes_beside_stacks(tmp_path: Path) -> None:
    sizes = {"spacing": [3, 0.5, 0.25]}
    for number, (images, masks) in enumerate(((sizes, None), (None, sizes), (sizes, sizes))):
        reader = NnUNetRaw(stacks(tmp_path / str(number), images, masks))
        (source,) = reader.sources()
        case = reader.read(source)
        assert case.image.shape == (1, *SHAPE)
        assert case.spacing_mm == (3.0, 0.5, 0.25)
    reader = NnUNetRaw(stacks(tmp_path / "unknown"))
    assert reader.read(reader.sources()[0]).spacing_mm is None


def test_another_voxel_size_is_another_image(tmp_path: Path) -> None:
    form, store = Preparation(dims=3, spacing_mm=(1.0, 1.0, 1.0)), Cache(tmp_path / "cache")
    shapes = []
    for size in (1.0, 2.0):
        root = stacks(tmp_path / "data", {"spacing": [size, 1, 1]})
        (case,) = prepare(NnUNetRaw(root), form, store)
        shapes.append(case.image.shape)
    assert shapes == [(1, 4, 5, 6), (1, 8, 5, 6)]


@pytest.mark.parametrize(
    ("images", "masks", "said"),
    [
        ({"spacing": [1, 2, "3"]}, None, "imagesTr/a.json states no voxel size"),
        ({"spacing": [1, 2, 0]}, None, "states no voxel size"),
        ({"spacing": [1, 2, float("nan")]}, None, "a.json"),
        ({"sizes": [1, 2, 3]}, None, "states no voxel size"),
        ([1, 2, 3], None, "states no voxel size"),
        ({"spacing": [1, 2, 3]}, {"spacing": [1, 2, 4]}, "state other voxel sizes"),
        ({"spacing": [1, 2]}, None, "has 3 axes, but .* states 2 voxel sizes"),
    ],
)
def test_voxel_sizes_that_are_none(tmp_path: Path, images: Any, masks: Any, said: str) -> None:
    def read() -> None:
        reader = NnUNetRaw(stacks(tmp_path, images, masks))
        reader.read(reader.sources()[0])

    with pytest.raises(SegprefError, match=said):
        read()
