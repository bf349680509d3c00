"""Small valid things that the fuzz test changes: images, labels, datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from segpref.data import Reader, open_dataset

__all__ = [
    "GREY",
    "MAP",
    "MASK",
    "VOLUME",
    "VOLUME_MAP",
    "contents",
    "decathlon",
    "nifti",
    "nnunet",
    "pairs",
    "picture",
    "read",
]

_DRAW = np.random.default_rng(5)
GREY = _DRAW.integers(2, 250, (24, 20)).astype(np.uint8)
MASK = (_DRAW.random((24, 20)) < 0.4).astype(np.uint8)
MAP = _DRAW.integers(0, 3, (24, 20)).astype(np.uint8)
VOLUME = _DRAW.integers(0, 200, (7, 6, 5)).astype(np.int16)
VOLUME_MAP = _DRAW.integers(0, 3, (7, 6, 5)).astype(np.uint8)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


def picture(path: Path, array: np.ndarray, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **how)
    return path


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def pairs(folder: Path, image: str = "a.png", label: str = "a.png", where: str = "labels") -> Path:
    """One picture with a label map of three classes (``labels``) or a mask (``masks``)."""
    picture(folder / "images" / image, GREY)
    picture(folder / where / label, MAP if where == "labels" else MASK * 255)
    return folder


def volumes(folder: Path) -> Path:
    nifti(folder / "images/a.nii.gz", VOLUME)
    nifti(folder / "labels/a.nii.gz", VOLUME_MAP)
    return folder


DECATHLON: dict[str, Any] = {
    "modality": {"0": "MR"},
    "labels": {"0": "background", "1": "a", "2": "b"},
    "training": [{"image": "./imagesTr/c.nii.gz", "label": "./labelsTr/c.nii.gz"}],
    "test": [],
}
NNUNET: dict[str, Any] = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "a": 1, "b": 2},
    "file_ending": ".nii.gz",
}


def decathlon(folder: Path, description: Any = None, image: str = "c") -> Path:
    nifti(folder / f"imagesTr/{image}.nii.gz", VOLUME)
    nifti(folder / "labelsTr/c.nii.gz", VOLUME_MAP)
    return describe(folder, DECATHLON if description is None else description)


def nnunet(folder: Path, description: Any = None) -> Path:
    nifti(folder / "imagesTr/c_0000.nii.gz", VOLUME)
    nifti(folder / "labelsTr/c.nii.gz", VOLUME_MAP)
    return describe(folder, NNUNET if description is None else description)


def describe(folder: Path, description: Any) -> Path:
    path = folder / "dataset.json"
    if isinstance(description, bytes):
        path.write_bytes(description)
    else:
        path.write_text(json.dumps(description))
    return folder


def read(folder: Path, **options: Any) -> dict[str, Any]:
    """All that a dataset says, as plain values and arrays."""
    return contents(open_dataset(folder, **options))


def contents(reader: Reader) -> dict[str, Any]:
    """All that a reader says."""
    cases = [reader.read(source) for source in reader.sources()]
    return {
        case.id: {
            "patient": case.patient,
            "image": np.asarray(case.image),
            "label": None if case.label is None else np.asarray(case.label),
            "spacing_mm": case.spacing_mm,
        }
        for case in cases
    }


def case(
    image: np.ndarray, label: np.ndarray | None, name: str = "a", **more: Any
) -> Mapping[str, Any]:
    """What :func:`read` says of a dataset of one case."""
    one = {
        "patient": name,
        "image": image[None].astype(np.float32),
        "label": None,
        "spacing_mm": None,
    }
    if label is not None:
        one["label"] = label[None]
    return {name: one | more}
