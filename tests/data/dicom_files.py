"""Makers of small DICOM files: slices, stacks in any orientation, enhanced files, odd headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

AXIAL = (1.0, 0, 0, 0, 1, 0)
CORONAL = (1.0, 0, 0, 0, 0, -1)
SAGITTAL = (0.0, 1, 0, 0, 0, -1)


def values(shape: Sequence[int], seed: int = 1) -> np.ndarray:
    """Unsigned values of 12 bits."""
    return np.random.default_rng(seed).integers(0, 4096, tuple(shape)).astype(np.uint16)


def image(pixels: np.ndarray, **tags: Any) -> Dataset:
    """One file of ``[row, column]``, or of frames; a tag that is None is left out."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
    data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID = "p1", "1.9.1", "1.9.1.1"
    data.StudyDate, data.Modality = "20240102", "CT"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape[-2:]
    signed = pixels.dtype.kind == "i"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = int(signed)
    if pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.PixelData = pixels.astype("<i2" if signed else "<u2").tobytes()
    data["PixelData"].VR = "OW"
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    return data


def save(
    path: Path, data: Dataset, syntax: UID = ExplicitVRLittleEndian, preamble: bool = True
) -> Path:
    """Write a file; without a preamble it has no header of its own either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if preamble:
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = syntax
        data.save_as(path, enforce_file_format=True)
    else:
        little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
        data.save_as(path, little_endian=little, implicit_vr=implicit)
    return path


def stack(
    folder: Path,
    volume: np.ndarray,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (0.5, 0.75),
    gap_mm: float = 2.5,
    origin: Sequence[float] = (-10.0, 20.0, 5.0),
    names: str = "{:03d}.dcm",
    **tags: Any,
) -> Path:
    """A series of ``[slice, row, column]`` along its normal; names run against the positions."""
    row, column = np.array(orientation).reshape(2, 3)
    normal = np.cross(row, column)
    for number, pixels in enumerate(volume):
        place = np.array(origin) + number * gap_mm * normal
        data = image(
            pixels,
            ImagePositionPatient=[float(f"{one:.10g}") for one in place],
            ImageOrientationPatient=[float(f"{one:.12g}") for one in orientation],
            PixelSpacing=list(spacing),
            InstanceNumber=number + 1,
            FrameOfReferenceUID="1.9.9",
        )
        for name, value in tags.items():
            setattr(data, name, value)
        save(folder / names.format(len(volume) - number), data)
    return folder


def enhanced(
    path: Path, volume: np.ndarray, heights: Sequence[float], slopes: Sequence[float] = ()
) -> Path:
    """An enhanced CT file whose frames lie at these heights."""
    data = image(volume, SOPClassUID=EnhancedCTImageStorage)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2.0
    plane.ImageOrientationPatient = list(AXIAL)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number, height in enumerate(heights):
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = [1.0, 2.0, height]
        frame.PlanePositionSequence = [place]
        if slopes:
            rescale = Dataset()
            rescale.RescaleSlope, rescale.RescaleIntercept = slopes[number], -1000
            frame.PixelValueTransformationSequence = [rescale]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    return save(path, data)


def replaced(path: Path, old: bytes, new: bytes) -> Path:
    """The file with some bytes in the place of as many others."""
    whole = path.read_bytes()
    assert whole.count(old) == 1
    assert len(old) == len(new)
    path.write_bytes(whole.replace(old, new))
    return path
