"""Segments of DICOM-SEG files on the voxels of their series: each frame where it says it lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segpref.data.dicom_headers import Plane
from segpref.data.dicom_series import Series
from segpref.data.segmentation_headers import Segmentation, SegmentFrame, read_segmentation
from segpref.data.volumes import VolumeFile
from segpref.disk import refuse_scarcity
from segpref.late import late
from segpref.types import LabelSpace, SegprefError

__all__ = ["read_segments", "segments_of_structures"]

pydicom = late("pydicom")

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_OFF = 0.05
"""Of a voxel, that a corner of a frame may lie beside the corner of its slice: headers are rounded."""

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
"""Transfer syntaxes of bits as they are, in the byte order that everybody writes."""


def segments_of_structures(path: Path, there: Sequence[str], space: LabelSpace) -> None:
    """Check that the segments of an image's files are the structures of a label space, each once.

    Args:
        path: the first of the files, for messages.
        there: labels of their segments.
        space: whose structures they should be.

    Raises:
        SegprefError: one that is unknown, missing, or there twice.
    """
    due = _structures(space)
    listed = f"(segments: {', '.join(there)}; structures: {', '.join(due)})"
    if unknown := [label for label in there if label not in due]:
        raise SegprefError(
            f"{path} has the segment {unknown[0]!r}, which is no structure {listed}: correct names, or "
            "rename or remove the segment"
        )
    if missing := [name for name in due if name not in there]:
        raise SegprefError(
            f"{path} has no segment {missing[0]!r} {listed}: add it, without frames where there is none"
        )
    if len(set(there)) < len(there):
        twice = next(label for label in there if list(there).count(label) > 1)
        raise SegprefError(
            f"{path} and other files of its image have the segment {twice!r} twice: remove one of them"
        )


def read_segments(
    files: Sequence[Path], image: VolumeFile, series: Series, space: LabelSpace
) -> UInt8[np.ndarray, "field *space"]:
    """The label of a series: a frame lies in the slice that its position and its source name.

    Slices without a frame are background. Nothing depends on the order of frames.

    Args:
        files: binary DICOM-SEG files that hold each structure once.
        image: what was read of the series.
        series: the series.
        space: multi-class, where segments may not overlap, or multi-label.

    Raises:
        SegprefError: a frame beside the image's voxels, of another size, or given twice; a source that
            lies elsewhere; segments that overlap where they exclude each other; bits that are missing,
            or compressed.
    """
    shape = image.array.shape[1:]
    names = _structures(space)
    label = np.zeros((space.fields, *shape), np.uint8)
    owner: dict[tuple[str, int | None], Path] = {}
    for file in files:
        found = read_segmentation(file)
        # Headers are checked before pixels are read, so that these can't be more than the image holds.
        places = [_slice(found, frame, image, series) for frame in found.frames]
        for frame, place in zip(found.frames, places, strict=True):
            if (key := (frame.label, place)) in owner:
                raise SegprefError(
                    f"{file} has two frames of {frame.label!r} in one slice: export it again"
                )
            owner[key] = file
        bits = _bits(found)
        for number, (frame, place) in enumerate(zip(found.frames, places, strict=True)):
            pixels = _frame(bits, number, found)
            where = (Ellipsis,) if place is None else (Ellipsis, place)
            drawn = pixels if place is None else pixels.T
            value = names.index(frame.label)
            if space.kind == "multi-label":
                label[value][where][drawn] = 1
                continue
            before = label[0][where]
            if (other := before[drawn & (before > 0)]).size:
                raise SegprefError(
                    f"{file} has segments that overlap ({frame.label} and {names[other[0] - 1]}), "
                    "where structures exclude each other: set as_multilabel, or export them apart"
                )
            before[drawn] = value + 1
    return label


def _structures(space: LabelSpace) -> tuple[str, ...]:
    return space.names[1:] if space.kind == "multi-class" else space.names


def _slice(
    found: Segmentation, frame: SegmentFrame, image: VolumeFile, series: Series
) -> int | None:
    """Which slice a frame lies in; None of an image of one plane without a place."""
    shape = image.array.shape[1:]
    flat = len(shape) == 2
    columns, rows = reversed(shape) if flat else shape[:2]
    if (found.header.columns, found.header.rows) != (columns, rows):
        raise SegprefError(
            f"{found.path} has frames of {found.header.columns} x {found.header.rows} pixels but its "
            f"image {series.folder} has {columns} x {rows}: export segments on the image's own grid"
        )
    known = [series.instances.index(one) for one in frame.sources if one in series.instances]
    if frame.sources and not known:
        raise SegprefError(
            f"{found.path} has a frame made from the image {frame.sources[0]}, which is not in its "
            f"series {series.folder}: restore the image, or remove the segmentation"
        )
    if flat:
        return None
    of_slices = len(series.instances) == shape[2]
    if frame.plane.position is None:
        if of_slices and len(known) == 1:
            return known[0]
        raise SegprefError(
            f"{found.path} has a frame that does not say where it lies: export it again"
        )
    place = _place(found, frame.plane, image, series)
    if of_slices and known and place not in known:
        raise SegprefError(
            f"{found.path} has a frame that lies in slice {place} of {series.folder} but was made from "
            f"slice {known[0]}: export it again"
        )
    return place


def _place(found: Segmentation, plane: Plane, image: VolumeFile, series: Series) -> int:
    corners = _corners(plane, found.header.rows, found.header.columns)
    if corners is None or image.affine is None:
        raise SegprefError(
            f"{found.path} has a frame without ImageOrientationPatient or PixelSpacing: export it again"
        )
    voxels = np.linalg.solve(_TO_LPS @ image.affine, np.vstack([corners.T, np.ones(3)]))[:3].T
    place = round(float(voxels[0, 2]))
    right, bottom = found.header.columns - 1, found.header.rows - 1
    due = np.array([[0, 0, place], [right, 0, place], [0, bottom, place]])
    at = ", ".join(f"{one:.4g}" for one in voxels[0])
    if np.abs(voxels - due).max() > _OFF or not 0 <= place < image.array.shape[3]:
        raise SegprefError(
            f"{found.path} has a frame beside the slices of {series.folder} (its corner is at "
            f"voxel {at}): export segments on the image's own grid"
        )
    return place


def _corners(plane: Plane, rows: int, columns: int) -> Float[np.ndarray, "3 xyz"] | None:
    """Centres of the first pixel, of the last in its row, and of the last in its column."""
    if plane.position is None or plane.orientation is None or plane.spacing is None:
        return None
    row, column = np.array(plane.orientation).reshape(2, 3)
    first = np.array(plane.position)
    along = row * plane.spacing[1] * (columns - 1)
    return np.stack([first, first + along, first + column * plane.spacing[0] * (rows - 1)])


def _bits(found: Segmentation) -> UInt8[np.ndarray, " byte"]:
    path, header = found.path, found.header
    try:
        data: Any = pydicom.dcmread(path, force=True, specific_tags=["PixelData"])
        syntax = str(data.file_meta.get("TransferSyntaxUID", _NATIVE[0]))
        pixels = bytes(data.get("PixelData") or b"")
    except Exception as error:  # pydicom raises whatever a damaged file makes it stumble over
        refuse_scarcity(path, error)
        raise SegprefError(f"{path} is cut off or no valid DICOM-SEG: export it again") from error
    if syntax not in _NATIVE:
        raise SegprefError(
            f"the bits of {path} are compressed ({pydicom.uid.UID(syntax).name}): export it without "
            "compression"
        )
    due = -(-header.frames * header.rows * header.columns // 8)
    if not due <= len(pixels) <= due + 1:
        raise SegprefError(
            f"{path} holds {len(pixels)} bytes of pixels where {header.frames} frames have {due}: it "
            "is cut off or damaged, export it again"
        )
    return np.frombuffer(pixels, np.uint8)


def _frame(
    bits: UInt8[np.ndarray, " byte"], number: int, found: Segmentation
) -> Bool[np.ndarray, "row column"]:
    """One frame, which may begin within a byte."""
    size = found.header.rows * found.header.columns
    start, offset = divmod(number * size, 8)
    part = np.unpackbits(bits[start : start + -(-(offset + size) // 8)], bitorder="little")
    return part[offset : offset + size].reshape(found.header.rows, found.header.columns) > 0
