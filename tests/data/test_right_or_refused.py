"""Odd headers and files that are read right or refused in one sentence that names the file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segpref.data import Folders
from segpref.types import SegprefError

RNG = np.random.default_rng(0)
VOLUME = RNG.random((8, 9, 5)).astype(np.float32)
LABEL = np.zeros((8, 9, 5), np.uint8)
LABEL[2:5, 3:6, 1:4] = 1
PICTURE = RNG.integers(0, 256, (12, 10)).astype(np.uint8)
MASK = np.zeros((12, 10), np.uint8)
MASK[3:7, 2:6] = 255
NOISY = MASK.copy()
NOISY[0, 0] = 254

Write = Callable[[Path], Any]


def nifti(array: np.ndarray, size: float = 2.0, shift: float = 0.0, unit: str = "mm") -> Write:
    def write(path: Path) -> None:
        affine = np.diag([size, abs(size), abs(size), 1.0])
        affine[0, 3] = shift
        image = nib.Nifti1Image(array, affine)
        image.header.set_xyzt_units(unit)
        nib.save(image, path)

    return write


def cut(path: Path) -> None:
    nifti(VOLUME)(path)
    path.write_bytes(path.read_bytes()[:300])


COLOURED = np.zeros(VOLUME.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
HOLES = np.where(LABEL, np.nan, VOLUME).astype(np.float32)
ENDLESS = np.where(LABEL, np.inf, VOLUME).astype(np.float32)

REFUSED: dict[str, tuple[Write, Write, str]] = {
    "label of halves": (nifti(VOLUME), nifti(LABEL * np.float32(0.5)), "other than 0 and 1"),
    "label that is not a number": (nifti(VOLUME), nifti(HOLES), "NaN or infinite"),
    "label half a voxel aside": (nifti(VOLUME), nifti(LABEL, shift=1.0), "not aligned"),
    "label half a small voxel aside": (
        nifti(VOLUME, 1e-3), nifti(LABEL, 1e-3, shift=5e-4), "not aligned",
    ),
    "label of mirrored axes": (nifti(VOLUME), nifti(LABEL, -2.0), "turn one as the other"),
    "label in micrometres": (nifti(VOLUME), nifti(LABEL, unit="micron"), "units of length"),
    "image in metres": (nifti(VOLUME, unit="meter"), nifti(LABEL), "in metres"),
    "label of another size": (nifti(VOLUME), nifti(LABEL[:-1]), "export both on one grid"),
    "one-hot label": (nifti(VOLUME), nifti(np.stack([1 - LABEL, LABEL], -1)), "2 channels"),
    "five axes": (nifti(np.stack([VOLUME] * 2, -1)[..., None, :]), nifti(LABEL), "the shape"),
    "colours": (nifti(COLOURED), nifti(LABEL), "one real number per voxel"),
    "complex": (nifti(VOLUME.astype(np.complex64)), nifti(LABEL), "one real number per voxel"),
    "holes": (nifti(HOLES), nifti(LABEL), "27 of 360"),
    "infinity": (nifti(ENDLESS), nifti(LABEL), "27 of 360"),
    "no byte": (lambda path: path.write_bytes(b""), nifti(LABEL), "is empty"),
    "nothing, packed": (
        lambda path: path.write_bytes(gzip.compress(b"")), nifti(LABEL), "cut off, damaged",
    ),
    "cut off": (cut, nifti(LABEL), "cut off, damaged"),
    "a folder": (lambda path: path.mkdir(), nifti(LABEL), "has no image"),
    "a link to nowhere": (
        lambda path: path.symlink_to("nowhere.nii.gz"), nifti(LABEL), "leads nowhere",
    ),
    "image and label swapped": (nifti(LABEL), nifti(VOLUME), "other than 0 and 1"),
    "picture's mask with stray greys": (
        lambda path: Image.fromarray(PICTURE).save(path, "PNG"),
        lambda path: Image.fromarray(NOISY).save(path, "PNG"),
        "look like grey levels",
    ),
}  # fmt: skip

ACCEPTED: dict[str, tuple[Write, Write, tuple[float, ...] | None]] = {
    "both in micrometres": (
        nifti(VOLUME, unit="micron"), nifti(LABEL, unit="micron"), (2e-3,) * 3,
    ),
    "unit unknown in both": (nifti(VOLUME, unit="unknown"), nifti(LABEL, unit="unknown"), (2.0,) * 3),
    "label as rounded fractions": (nifti(VOLUME), nifti(LABEL * np.float64(1.0000001)), (2.0,) * 3),
    "five axes of one": (nifti(VOLUME[..., None, None]), nifti(LABEL), (2.0,) * 3),
    "constant image": (nifti(VOLUME * 0 + 3), nifti(LABEL), (2.0,) * 3),
    "rounded offset": (nifti(VOLUME, shift=100.0), nifti(LABEL, shift=100.00001), (2.0,) * 3),
    "small voxels": (nifti(VOLUME, 1e-3, 50.0), nifti(LABEL, 1e-3, 50.0), (1e-3,) * 3),
    "mask of bits": (
        lambda path: Image.fromarray(PICTURE).save(path, "PNG"),
        lambda path: Image.fromarray(MASK > 0).save(path, "PNG"),
        None,
    ),
}  # fmt: skip


def folders(place: Path, image: Write, label: Write) -> Folders:
    ending = "png" if "PNG" in (image.__code__.co_consts or ()) else "nii.gz"
    for name, write in (("images", image), ("labels", label)):
        (place / name).mkdir()
        write(place / name / f"a.{ending}")
    return Folders(place)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    image, label, sentence = REFUSED[name]

    def read() -> None:
        reader = folders(tmp_path, image, label)
        reader.read(reader.sources()[0])

    with pytest.raises(SegprefError, match=sentence) as refused:
        read()
    said = str(refused.value)
    assert "a.nii.gz" in said or "a.png" in said
    assert "\n" not in said


@pytest.mark.parametrize("name", ACCEPTED)
def test_read_right(name: str, tmp_path: Path) -> None:
    image, label, spacing = ACCEPTED[name]
    reader = folders(tmp_path, image, label)
    case = reader.read(reader.sources()[0])
    expected = MASK > 0 if spacing is None else LABEL
    np.testing.assert_array_equal(np.asarray(case.label)[0], expected)
    assert case.spacing_mm == (spacing if spacing is None else pytest.approx(spacing, rel=1e-5))


@pytest.mark.parametrize("names", [("a.nii", "a.nii.gz"), ("a.png", "a.jpg")])
def test_two_files_of_one_name(names: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name in names:
        path = tmp_path / "images" / name
        nifti(VOLUME)(path) if ".nii" in name else Image.fromarray(PICTURE).save(path)
    label = tmp_path / "labels" / names[0]
    nifti(LABEL)(label) if ".nii" in label.name else Image.fromarray(MASK).save(label)
    with pytest.raises(SegprefError, match="both get the id a"):
        Folders(tmp_path)
