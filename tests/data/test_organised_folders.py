"""Folders as people organise them: links, leftovers of other programs, masks with usual names."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segpref.data import ACDC, Decathlon, Folders, NnUNetRaw, Tree, open_dataset
from segpref.types import SegprefError


def nifti(path: Path, labels: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 2 if labels else np.ones((2, 3, 4))
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)


def picture(path: Path, mask: bool = False, colour: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    array = (grey % 2 * 255).astype(np.uint8) if mask else grey
    Image.fromarray(np.stack([array, array // 2, array], axis=-1) if colour else array).save(path)


def patient(folder: Path, number: int) -> Path:
    place = folder / f"patient{number:03d}"
    for ending in ("", "_gt"):
        nifti(place / f"patient{number:03d}_frame01{ending}.nii.gz", bool(ending))
    return place


def test_patients_that_are_links_are_there(tmp_path: Path) -> None:
    folder, store = tmp_path / "acdc", tmp_path / "store"
    for number in range(1, 4):
        patient(folder, number)
    for number in range(4, 6):
        (folder / f"patient{number:03d}").symlink_to(patient(store, number))
    assert [source.patient for source in ACDC(folder).sources()] == [
        f"patient{number:03d}" for number in range(1, 6)
    ]


@pytest.mark.parametrize("leftover", [".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir"])
def test_copies_in_hidden_folders_are_no_patients(tmp_path: Path, leftover: str) -> None:
    shutil.copytree(patient(tmp_path, 1), tmp_path / leftover / "patient007")
    shutil.copytree(patient(tmp_path, 1), tmp_path / "patient001" / leftover)
    patient(tmp_path / leftover, 8)
    (source,) = open_dataset(tmp_path).sources()
    assert source.patient == "patient001"
    assert source.labels


def test_a_folder_is_walked_once_wherever_links_lead(tmp_path: Path) -> None:
    place = patient(tmp_path, 1)
    (place / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(place)
    (source,) = open_dataset(tmp_path).sources()
    assert source.images[0].parent == place  # by its own name
    assert set(Tree(tmp_path).skipped) == {place / "up", tmp_path / "again"}


def test_what_hides_in_a_name_with_a_dot_is_reached_by_a_link(tmp_path: Path) -> None:
    patient(tmp_path / ".store", 1)
    (tmp_path / "patient001").symlink_to(tmp_path / ".store" / "patient001")
    assert [source.patient for source in ACDC(tmp_path).sources()] == ["patient001"]


def test_the_root_itself_may_be_hidden(tmp_path: Path) -> None:
    patient(tmp_path / ".data", 1)
    assert len(ACDC(tmp_path / ".data").sources()) == 1


def isic(folder: Path) -> None:
    for name in ("ISIC_0", "ISIC_1"):
        picture(folder / f"ISIC-2017_Data/{name}.png", colour=True)
        picture(folder / f"ISIC-2017_Data/{name}_superpixels.png", colour=True)
        picture(folder / f"ISIC-2017_GroundTruth/{name}_segmentation.png", mask=True)


def flat(suffix: str) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        for name in ("ISIC_0", "ISIC_1"):
            picture(folder / f"images/{name}.bmp")
            picture(folder / f"masks/{name}{suffix}.png", mask=True)

    return made


def in_parts(folder: Path) -> None:
    for name, part in (("ISIC_0", "train"), ("ISIC_1", "val")):
        picture(folder / f"images/{part}/{name}.png")
        picture(folder / f"labels/{part}/{name}.png", mask=True)


def capitals(folder: Path) -> None:
    for name in ("ISIC_0", "ISIC_1"):
        picture(folder / f"Images/{name}.png")
        picture(folder / f"Masks/{name}.png", mask=True)


@pytest.mark.parametrize(
    "layout",
    [isic, in_parts, capitals, *map(flat, ("", "_mask", "_segmentation", "-seg", "_gt"))],
)
def test_usual_names_of_masks_are_recognised(
    tmp_path: Path, layout: Callable[[Path], None]
) -> None:
    layout(tmp_path)
    reader = open_dataset(tmp_path)
    assert [source.id for source in reader.sources()] == ["ISIC_0", "ISIC_1"]
    for source in reader.sources():
        label = reader.read(source).label
        assert label is not None
        np.testing.assert_array_equal(label[0], np.arange(64).reshape(8, 8) % 2)


def test_a_mask_without_image_is_still_an_error(tmp_path: Path) -> None:
    flat("_mask")(tmp_path)
    picture(tmp_path / "masks/other_mask.png", mask=True)
    with pytest.raises(SegprefError, match=r"other_mask\.png has no image"):
        open_dataset(tmp_path)


def test_masks_beside_folders_of_structures_are_no_secret(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "masks/lung/a.png", mask=True)
    picture(tmp_path / "masks/a.png", mask=True)
    with pytest.raises(SegprefError, match="lies beside the folders of structures"):
        open_dataset(tmp_path)


def test_names_in_any_normalisation_of_unicode_are_one(tmp_path: Path) -> None:
    apart, together = (unicodedata.normalize(form, "père") for form in ("NFD", "NFC"))
    picture(tmp_path / f"images/{apart}.png")
    picture(tmp_path / f"masks/{together}.png", mask=True)
    (source,) = Folders(tmp_path).sources()
    assert source.id == together
    assert source.labels


def described(folder: Path, **changes: Any) -> Path:
    content = {
        "modality": {"0": "MR"},
        "labels": {"0": "background", "1": "a"},
        "training": [{"image": "./imagesTr/c0.nii.gz", "label": "./labelsTr/c0.nii.gz"}],
    }
    text = json.dumps(content | changes)
    (folder / "dataset.json").write_bytes(b"\xef\xbb\xbf" + text.encode())  # as Windows writes it
    return folder


@pytest.mark.parametrize("channels", [1, 2])
def test_names_of_the_first_nnunet(tmp_path: Path, channels: int) -> None:
    for number in range(channels):
        nifti(tmp_path / f"imagesTr/c0_{number:04d}.nii.gz")
    nifti(tmp_path / "labelsTr/c0.nii.gz", labels=True)
    modality = {str(number): f"MR {number}" for number in range(channels)}
    reader = open_dataset(described(tmp_path, modality=modality))
    (source,) = reader.sources()
    assert source.id == "c0"
    assert reader.read(source).image.shape == (channels, 2, 3, 4)


def test_an_entry_may_list_a_file_for_each_channel(tmp_path: Path) -> None:
    files = [f"imagesTr/c0_{name}.nii.gz" for name in ("t1", "t2")]
    for file in files:
        nifti(tmp_path / file)
    folder = described(tmp_path, modality={"0": "T1", "1": "T2"}, training=[{"image": files}])
    (source,) = Decathlon(folder).sources()
    assert len(source.images) == 2
    with pytest.raises(SegprefError, match=r"lists 1 files under an .image. of 2 channels"):
        Decathlon(
            described(folder, modality={"0": "T1", "1": "T2"}, training=[{"image": files[:1]}])
        )


def test_a_list_of_labels_is_refused(tmp_path: Path) -> None:
    nifti(tmp_path / "imagesTr/c0.nii.gz")
    entry = {"image": "imagesTr/c0.nii.gz", "label": ["labelsTr/c0.nii.gz"]}
    with pytest.raises(SegprefError, match="where the path of a file is expected"):
        Decathlon(described(tmp_path, training=[entry]))


def test_nnunet_labels_in_another_normalisation(tmp_path: Path) -> None:
    apart, together = (unicodedata.normalize(form, "père") for form in ("NFD", "NFC"))
    nifti(tmp_path / f"imagesTr/{apart}_0000.nii.gz")
    nifti(tmp_path / f"labelsTr/{together}.nii.gz", labels=True)
    content = {
        "channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"
    }  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (source,) = NnUNetRaw(tmp_path).sources()
    assert source.labels


def test_what_was_found_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat("")(tmp_path)
    picture(tmp_path / "other/photo.png")
    picture(tmp_path / ".ipynb_checkpoints/a.png")
    for _ in range(2):
        open_dataset(tmp_path)
    printed = capsys.readouterr().err
    assert printed.count("2 images (each counts as a patient), 2 with labels") == 1
    assert "channels image; structures foreground; left alone hidden: .ipynb_checkpoints" in printed
    assert "other images: other/photo.png" in printed


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"threshold": float("nan")}, "threshold must be a finite number or left out, not nan"),
        ({"colour": 1}, "colour must be true or false or left out"),
        ({"names": "lung"}, "names must be a list"),
        ({"ignore": "255"}, "ignore must be a whole number or left out"),
        ({"suffix": ["_mask"]}, "suffix must be text"),
    ],
)
def test_options_of_the_wrong_type(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    flat("")(tmp_path)
    with pytest.raises(SegprefError, match=f"Folders: {reason}"):
        open_dataset(tmp_path, **options)
