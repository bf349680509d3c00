"""What a DICOM-SEG says, read by pydicom alone: frames by segment and by where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)


def frames(path: Path) -> dict[tuple[str, tuple[float, ...]], tuple[np.ndarray, str]]:
    """Pixels ``[row, column]`` and the source instance of each frame, by label and position."""
    data = pydicom.dcmread(path)
    labels = {one.SegmentNumber: one.SegmentLabel for one in data.SegmentSequence}
    bits = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
    planes = bits[: data.NumberOfFrames * data.Rows * data.Columns]
    planes = planes.reshape(data.NumberOfFrames, data.Rows, data.Columns)
    shared = data.SharedFunctionalGroupsSequence[0]
    found = {}
    for pixels, own in zip(planes, data.PerFrameFunctionalGroupsSequence, strict=True):
        number = _group(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber
        place = _group(own, shared, "PlanePositionSequence").ImagePositionPatient
        source = own.DerivationImageSequence[0].SourceImageSequence[0]
        key = labels[number], tuple(round(float(one), 4) for one in place)
        assert key not in found
        found[key] = pixels, str(source.ReferencedSOPInstanceUID)
    return found


def _group(own: Dataset, shared: Dataset, name: str) -> Dataset:
    return (own if name in own else shared)[name][0]


def positions(folder: Path) -> dict[tuple[float, ...], str]:
    """The instances of a series by where they lie."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    return {
        tuple(round(float(one), 4) for one in header.ImagePositionPatient): header.SOPInstanceUID
        for header in headers
    }
