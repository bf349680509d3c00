"""Small real files of every format, written on the fly."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

MM = np.array([[1.5, 0, 0, -20], [0, 1.5, 0, 7], [0, 0, 8, 3], [0, 0, 0, 1.0]])


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = MM, unit: str = "mm") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def picture(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


def description(folder: Path, **content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dataset.json"
    path.write_text(json.dumps(content))
    return path


def dicom(
    path: Path, pixels: np.ndarray, uid: str, position: Sequence[float] | None, **tags: Any
) -> Path:
    """One slice; ``pixels`` is (row, column), uint16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = uid
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelSpacing = [0.5, 0.75]  # between rows, between columns
    if position is not None:
        data.ImagePositionPatient = [float(value) for value in position]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = pixels.astype("<u2").tobytes()
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def series(
    folder: Path, volume: np.ndarray, gap_mm: float = 2.5, uid: str = "1.2.3", **tags: Any
) -> Path:
    """A series of (slice, row, column); names and instance numbers run against the positions."""
    for number, pixels in enumerate(volume):
        dicom(
            folder / f"{len(volume) - number:03d}.dcm",
            pixels,
            uid,
            (-10.0, 20.0, 5.0 + gap_mm * number),
            InstanceNumber=len(volume) - number,
            **tags,
        )
    return folder


def labels(shape: Sequence[int], classes: int, seed: int = 0) -> np.ndarray:
    """A label map that is not symmetric in any axis and holds every class."""
    found = np.random.default_rng(seed).integers(0, classes, size=tuple(shape)).astype(np.uint8)
    found.flat[:classes] = np.arange(classes)
    return found


def grey(shape: Sequence[int], seed: int = 1, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, size=tuple(shape)).astype(dtype)


def bound_socket(path: Path) -> None:
    """A socket that a program has left behind."""
    # Its address may be shorter than the path is.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)
