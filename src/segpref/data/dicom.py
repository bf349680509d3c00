"""One DICOM series as one volume, sorted by position, in the RAS convention of nibabel."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from segpref.disk import refuse_scarcity
from segpref.late import late
from segpref.targets import refuse_special
from segpref.types import SegprefError

__all__ = ["is_dicom", "is_radiograph", "radiographs", "read_series", "read_slices"]

pydicom, affines = late("pydicom"), late("nibabel.affines")
image_reader = late("monai.data.image_reader")

_SUFFIXES = (".dcm", ".dicom")

_NUMBERS = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
)
_TAGS = ["SeriesInstanceUID", "SeriesDescription", "PhotometricInterpretation", *_NUMBERS]

_Read = tuple[
    Num[np.ndarray, "1 *space"], Float[np.ndarray, "4 4"] | None, tuple[float, ...] | None
]


def is_dicom(path: Path) -> bool:
    """Whether the name or a mark in the file says DICOM.

    Hidden files and a DICOMDIR index do not count. A file that is named DICOM does, whatever is in
    it: a slice that was damaged must not be passed over in silence.
    """
    if path.name.upper() == "DICOMDIR" or path.name.startswith("."):
        return False
    if path.suffix.lower() in _SUFFIXES:
        return not path.is_dir()
    return path.is_file() and _has_mark(path)


def is_radiograph(path: Path) -> bool:
    """Whether the DICOM file can be read and states no position in space."""
    try:
        return "ImagePositionPatient" not in _header(path)
    except SegprefError:
        return False


def radiographs(files: Sequence[Path]) -> list[Path] | None:
    """Which of a folder's DICOM files are images of their own; None where they make up a series.

    They make up a series as soon as one states its position in space. Files without pixels, such as
    reports, are no images; damaged ones count as images, so that reading them reports what is wrong.
    """
    found = []
    for file in files:
        try:
            header = _header(file)
        except SegprefError:
            found.append(file)
            continue
        if "ImagePositionPatient" in header:
            return None
        if header.get("Rows"):
            found.append(file)
    return found


def read_series(path: Path) -> _Read:
    """Read the one series of a folder, or a single file.

    Slices are sorted by their position along the slice normal, whatever their names and instance
    numbers say, and the rescale slope and intercept are applied. MONOCHROME1 images are inverted
    within their stored range, so that high is always bright.

    Returns:
        array: ``[1, x, y, z]``; a radiograph, which has no position in space, ``[1, row, column]``.
        affine: ``[4, 4]`` in RAS, None for a radiograph.
        spacing_mm: per spatial axis, None where the file does not say.

    Raises:
        SegprefError: no DICOM, several series, a missing or doubled slice, slices that differ in
            size or orientation, multi-frame or colour files, compressed pixels without a decoder.
    """
    headers = _headers(path)
    if "ImagePositionPatient" not in headers[0][1] and len(headers) == 1:
        return _read_radiograph(*headers[0])
    return _read_stack(path, headers)


def read_slices(
    path: Path, low_mm: float, high_mm: float, named: Collection[str] = ()
) -> tuple[
    Num[np.ndarray, "1 x y z"],
    Float[np.ndarray, "4 4"],
    tuple[float, ...],
    Float[np.ndarray, " z"],
]:
    """Read the axial slices of a series from one height to another, as :func:`read_series` does.

    The heights are those of the nearest slices. Of several slices at one height only one is read: that
    which is named, else the one with the lowest InstanceNumber. The rest of the series may have holes,
    other gaps, or files without a place.

    Args:
        path: folder of the series.
        low_mm: third number of ImagePositionPatient of the lowest slice.
        high_mm: that of the highest.
        named: SOPInstanceUIDs of slices that are preferred.

    Returns:
        array: ``[1, x, y, z]``; where one slice is asked for there are two, as far as the series has
            them, for the distance between slices.
        affine: ``[4, 4]`` in RAS.
        spacing_mm: per spatial axis.
        heights_mm: of every slice of the array.

    Raises:
        SegprefError: as of :func:`read_series`, but only of what is read; two slices at one height that
            nothing distinguishes.
    """
    at_height: dict[float, list[tuple[Path, Any]]] = {}
    for file, header in _headers(path):
        position = header.get("ImagePositionPatient")
        if np.size(position) == 3:
            at_height.setdefault(round(float(position[2]), 2), []).append((file, header))
    if not at_height:
        raise SegprefError(
            f"{path} is not a stack of slices, since none of them states its position: restore "
            f"the CT series"
        )
    heights = np.array(sorted(at_height))
    first, last = (int(np.abs(heights - height).argmin()) for height in (low_mm, high_mm))
    if first == last and len(heights) > 1:
        beside = [place for place in (first - 1, first + 1) if 0 <= place < len(heights)]
        nearest = min(beside, key=lambda place: abs(heights[place] - heights[first]))
        first, last = sorted((first, nearest))
    heights = heights[first : last + 1]
    chosen = [_preferred(path, at_height[height], named) for height in heights.tolist()]
    array, affine, spacing = _read_stack(path, chosen)
    assert affine is not None
    assert spacing is not None
    return array, affine, spacing, heights if affine[2, 2] > 0 else heights[::-1]


def _headers(path: Path) -> list[tuple[Path, Any]]:
    """Every image file of one series with its header."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if is_dicom(p))
    headers = [(file, header) for file in files if (header := _header(file)).get("Rows")]
    if not headers:
        raise SegprefError(
            f"{path} holds no DICOM image: point to the folder of one series, or to an image file"
        )
    _check_one_series(path, headers)
    return headers


def _preferred(
    path: Path, slices: Sequence[tuple[Path, Any]], named: Collection[str]
) -> tuple[Path, Any]:
    """Which of the slices at one height is read."""
    if len(slices) == 1:
        return slices[0]
    ranks = [_rank(file, named) for file, _ in slices]
    best = [one for one, rank in zip(slices, ranks, strict=True) if rank == min(ranks)]
    if len(best) > 1:
        raise _doubled(path, best[0][0], best[1][0])
    return best[0]


def _rank(file: Path, named: Collection[str]) -> tuple[bool, float]:
    tags = ["SOPInstanceUID", "InstanceNumber"]
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
    try:
        number = float(header.get("InstanceNumber"))
    except (TypeError, ValueError):
        number = np.inf
    return str(header.get("SOPInstanceUID", "")) not in named, number


def _doubled(path: Path, one: Path, other: Path) -> SegprefError:
    return SegprefError(
        f"{path} holds two slices at one position ({one.name} and {other.name}): move one out of the "
        "folder"
    )


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            stream.seek(128)
            return stream.read(4) == b"DICM"
    except OSError as error:
        refuse_scarcity(path, error)
        return False


def _header(file: Path) -> Any:
    refuse_special(file)
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
        for tag in _TAGS:
            value = header.get(tag)  # pydicom decodes a value when it is asked for
            if tag in _NUMBERS and value is not None:
                np.asarray(value, dtype=float)
    except OSError as error:
        refuse_scarcity(file, error)
        raise SegprefError(
            f"{file} can't be read ({error.strerror}): restore it, or ask for the permission to read it"
        ) from error
    except Exception as error:  # pydicom raises whatever a damaged file makes it stumble over
        raise SegprefError(f"{file} is cut off or no valid DICOM file: export it again") from error
    kind = header.file_meta.get("MediaStorageSOPClassUID")
    if kind is not None and "Image Storage" in kind.name and not header.get("Rows"):
        raise SegprefError(f"{file} is cut off, it does not say its size: export it again")
    return header


def _check_one_series(path: Path, headers: Sequence[tuple[Path, Any]]) -> None:
    series = {
        str(h.get("SeriesInstanceUID", "")): str(h.get("SeriesDescription", "")) for _, h in headers
    }
    if len(series) > 1:
        names = ", ".join(
            " ".join(filter(None, (text, uid))) for uid, text in sorted(series.items())
        )
        raise SegprefError(
            f"{path} holds {len(series)} DICOM series ({names}): put each in a folder of its own"
        )
    for file, header in headers:
        if (
            int(header.get("NumberOfFrames", 1) or 1) > 1
            or int(header.get("SamplesPerPixel", 1)) > 1
        ):
            raise SegprefError(
                f"{file} is a multi-frame or colour DICOM file: convert it to NIfTI (dcm2niix) or PNG"
            )


def _pixels(file: Path, header: Any, swap: bool) -> tuple[Num[np.ndarray, "a b"], Any]:
    """Rescaled pixels of one file, (x, y) if swapped, and the affine of its plane in RAS."""
    reader = image_reader.PydicomReader(swap_ij=swap)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI warns of absent positions, checked above
            array, meta = reader.get_data(reader.read(file))
    except Exception as error:  # pydicom's decoders raise whatever they like
        reason = " ".join(str(error).split()).rstrip(".")
        raise SegprefError(
            f"the pixels of {file} cannot be decoded ({reason[:120]}): export the series again "
            "without compression, or install pylibjpeg"
        ) from error
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        array = _inverted(array, header)
    return array, meta["affine"]


def _inverted(array: Num[np.ndarray, "a b"], header: Any) -> Num[np.ndarray, "a b"]:
    bits = int(header.BitsStored)
    low = -(2 ** (bits - 1)) if header.get("PixelRepresentation", 0) else 0
    slope = float(header.get("RescaleSlope", 1))
    ends = 2 * low + 2**bits - 1
    total = slope * ends + 2 * float(header.get("RescaleIntercept", 0))
    return np.asarray(total - array.astype(np.float32))


def _read_radiograph(file: Path, header: Any) -> _Read:
    array, _ = _pixels(file, header, swap=False)
    sizes = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    return array[None], None, tuple(float(size) for size in sizes) if sizes else None


def _read_stack(path: Path, headers: Sequence[tuple[Path, Any]]) -> _Read:
    ordered = _sort_by_position(path, headers)
    planes = [_pixels(file, header, swap=True) for file, header, _ in ordered]
    affine = np.array(planes[0][1], dtype=np.float64)
    if len(planes) > 1:
        step = (ordered[-1][2] - ordered[0][2]) / (len(ordered) - 1)
    else:
        row, column = np.array(headers[0][1].ImageOrientationPatient, dtype=float).reshape(2, 3)
        step = np.cross(row, column) * float(headers[0][1].get("SliceThickness") or 1.0)
    affine[:3, 2] = step * (-1.0, -1.0, 1.0)  # DICOM's LPS to RAS
    array = np.stack([plane for plane, _ in planes], axis=-1)
    return array[None], affine, tuple(float(size) for size in affines.voxel_sizes(affine))


def _sort_by_position(
    path: Path, headers: Sequence[tuple[Path, Any]]
) -> list[tuple[Path, Any, Float[np.ndarray, "3"]]]:
    first_file, first = headers[0]
    for file, header in headers:
        if "ImagePositionPatient" not in header or "ImageOrientationPatient" not in header:
            raise SegprefError(
                f"{file} does not say where its slice lies (ImagePositionPatient): export the series "
                "again, or move the file out of the folder"
            )
        same = (header.Rows, header.Columns) == (first.Rows, first.Columns) and all(
            np.allclose(header.get(tag) or 0, first.get(tag) or 0, atol=1e-3)
            for tag in ("ImageOrientationPatient", "PixelSpacing")
        )
        if not same:
            raise SegprefError(
                f"{file} differs from {first_file.name} in size, pixel spacing or orientation: move "
                "it out of the folder"
            )
    row, column = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(row, column)
    slices = [(file, h, np.array(h.ImagePositionPatient, dtype=float)) for file, h in headers]
    slices.sort(key=lambda item: float(item[2] @ normal))
    _check_gaps(path, [file for file, _, _ in slices], np.array([p @ normal for _, _, p in slices]))
    return slices


def _check_gaps(path: Path, files: Sequence[Path], heights: Float[np.ndarray, " n"]) -> None:
    gaps = np.diff(heights)
    if len(gaps) == 0:
        return
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])  # the lower median: a hole only widens gaps
    closest, widest = int(gaps.argmin()), int(gaps.argmax())
    if gaps[closest] < 1e-3:
        raise _doubled(path, files[closest], files[closest + 1])
    if max(gaps[widest] - usual, usual - gaps[closest]) > 0.1 * usual + 1e-2:
        raise SegprefError(
            f"{path} misses a slice or has uneven ones ({gaps[widest]:.4g} mm between "
            f"{files[widest].name} and {files[widest + 1].name}, usually {usual:.4g} mm): add the "
            "missing files, or resample the series to even slices"
        )
