"""Segments of DICOM-SEG files on the voxels of their series: each frame where it says it lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from segpref.data.dicom import ordered_slices
from segpref.data.dicom_file import read_dicom
from segpref.data.dicom_headers import Plane
from segpref.data.dicom_order import Slice
from segpref.data.dicom_series import Series
from segpref.data.segmentation_headers import Segmentation, SegmentFrame, read_segmentation
from segpref.data.volumes import VolumeFile
from segpref.disk import refuse_scarcity
from segpref.late import late
from segpref.types import LabelSpace, SegprefError

__all__ = ["read_segments", "read_structures", "segments_of_structures"]

pydicom = late("pydicom")

_OFF = 0.05
"""Of a voxel, by which a corner of a frame may miss the corner of its slice: headers are rounded."""

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


def read_structures(
    file: Path, image: VolumeFile, series: Series | None, space: LabelSpace
) -> UInt8[np.ndarray, "field *space"]:
    """The mask of a series that one DICOM-SEG holds; see :func:`read_segments`.

    Raises:
        SegprefError: there is no series, its segments are not the structures, or what
            :func:`read_segments` refuses.
    """
    if series is None:
        raise SegprefError(
            f"{file} is a DICOM-SEG, but its image is no DICOM series: give its mask as an image"
        )
    segments_of_structures(file, read_segmentation(file).labels, space)
    return read_segments([file], image, series, space)


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
    slices = ordered_slices(series.files, series.folder)
    names = _structures(space)
    label = np.zeros((space.fields, *image.array.shape[1:]), np.uint8)
    # Slices last, whether the image is [row, column] or [x, y, slice].
    planes = label[..., None] if label.ndim == 3 else label.swapaxes(1, 2)
    taken: set[tuple[str, int]] = set()
    for file in files:
        found = read_segmentation(file)
        # Headers are checked before pixels are read, so that these can't be more than the image holds.
        places = [_slice(found, frame, slices) for frame in found.frames]
        for frame, place in zip(found.frames, places, strict=True):
            if (frame.label, place) in taken:
                raise SegprefError(
                    f"{file} has two frames of {frame.label!r} in one slice: export it again"
                )
            taken.add((frame.label, place))
        bits = _bits(found)
        for number, (frame, place) in enumerate(zip(found.frames, places, strict=True)):
            drawn, value = _frame(bits, number, found), names.index(frame.label)
            if space.kind == "multi-label":
                planes[value, ..., place][drawn] = 1
                continue
            before = planes[0, ..., place]
            if (other := before[drawn & (before > 0)]).size:
                raise SegprefError(
                    f"{file} has segments that overlap ({frame.label} and {names[other[0] - 1]}), "
                    "where structures exclude each other: set as_multilabel, or export them apart"
                )
            before[drawn] = value + 1
    return label


def _structures(space: LabelSpace) -> tuple[str, ...]:
    return space.names[1:] if space.kind == "multi-class" else space.names


def _slice(found: Segmentation, frame: SegmentFrame, slices: Sequence[Slice]) -> int:
    """Which slice of the image a frame lies in."""
    header = slices[0][0]
    size, due = (f"{one.columns} x {one.rows}" for one in (found.header, header))
    if size != due:
        raise SegprefError(
            f"{found.path} has frames of {size} pixels but its image {header.path.name} has {due}: "
            "export segments on the image's own grid"
        )
    known = [place for place, one in enumerate(slices) if one[0].sop_instance in frame.sources]
    if frame.sources and not known:
        raise SegprefError(
            f"{found.path} has a frame made from the image {frame.sources[0]}, which is not in the "
            f"series of {header.path}: restore the image, or remove the segmentation"
        )
    if frame.plane.position is None:
        if len(known) == 1 or len(slices) == 1:
            return known[0] if known else 0
        raise SegprefError(
            f"{found.path} has a frame that does not say where it lies: export it again"
        )
    place = _place(found, frame.plane, slices)
    if known and place not in known:
        raise SegprefError(
            f"{found.path} has a frame that lies in slice {place} but was made from slice {known[0]} "
            f"({slices[known[0]][0].path.name}): export it again"
        )
    return place


def _place(found: Segmentation, plane: Plane, slices: Sequence[Slice]) -> int:
    """The slice whose corners are those of a frame."""
    rows, columns = found.header.rows, found.header.columns
    there = [_corners(one, rows, columns) for _, one in slices]
    own = _corners(plane, rows, columns)
    if own is None or any(one is None for one in there):
        path = found.path if own is None else slices[0][0].path
        raise SegprefError(
            f"{path} does not say where its pixels lie (ImagePositionPatient, ImageOrientationPatient, "
            "PixelSpacing): export it again"
        )
    # Slices as they are, and not where an even grid would have them: gaps may differ a little.
    known = np.stack([one for one in there if one is not None])
    off = np.linalg.norm(known - own, axis=-1).max(axis=-1)
    place = int(off.argmin())
    gaps = np.linalg.norm(np.diff(known[:, 0], axis=0), axis=-1)
    voxel = min(*(plane.spacing or (1.0, 1.0)), *gaps)
    if off[place] > _OFF * voxel:
        raise SegprefError(
            f"{found.path} has a frame beside the slices of its image ({off[place]:.3g} mm from "
            f"{slices[place][0].path.name}, the nearest): export segments on the image's own grid"
        )
    return place


def _corners(plane: Plane, rows: int, columns: int) -> Float[np.ndarray, "3 xyz"] | None:
    """Centres of the first pixel, of the last in its row, and of the last in its column, in mm."""
    if plane.position is None or plane.orientation is None or plane.spacing is None:
        return None
    row, column = np.array(plane.orientation).reshape(2, 3)
    first = np.array(plane.position)
    along = row * plane.spacing[1] * (columns - 1)
    return np.stack([first, first + along, first + column * plane.spacing[0] * (rows - 1)])


def _bits(found: Segmentation) -> UInt8[np.ndarray, " byte"]:
    path, header = found.path, found.header
    try:
        data: Any = read_dicom(path, specific_tags=["PixelData"])
        syntax = str(data.file_meta.get("TransferSyntaxUID", _NATIVE[0]))
        pixels = bytes(data.get("PixelData") or b"")
    except SegprefError:
        raise
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
