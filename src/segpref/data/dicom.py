"""One DICOM series as one volume, sorted by position, in the RAS convention of nibabel."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from segpref.data.dicom_headers import Header, Plane, read_header
from segpref.data.dicom_marks import is_dicom
from segpref.data.dicom_order import Slice, directions, doubled, sorted_slices
from segpref.data.dicom_pixels import rescaled, stored_values
from segpref.data.headers import warn_of_header
from segpref.late import late
from segpref.types import SegprefError

__all__ = ["is_radiograph", "ordered_slices", "read_files", "read_slices"]

affines = late("nibabel.affines")

_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""From DICOM's LPS."""

_Read = tuple[
    Num[np.ndarray, "1 *space"], Float[np.ndarray, "4 4"] | None, tuple[float, ...] | None
]


def is_radiograph(path: Path) -> bool:
    """Whether the DICOM file can be read and states no position in space."""
    try:
        return all(plane.position is None for plane in read_header(path).planes)
    except SegprefError:
        return False


def read_files(files: Sequence[Path], name: Path) -> _Read:
    """Read the files of one series, or a single one.

    Slices are sorted by their position along the slice normal, whatever their names and instance
    numbers say, and each is rescaled by its own slope and intercept. MONOCHROME1 images are inverted
    within their stored range, so that high is always bright. The frames of an enhanced file are slices.
    A file without PixelSpacing has the pixel size that was measured at the detector or on the film,
    with a warning; where it states none, sizes are unknown.

    Args:
        files: of the series, in any order.
        name: what messages call it.

    Returns:
        array: ``[1, x, y, z]``; a radiograph, which has no position in space, ``[1, row, column]``.
        affine: ``[4, 4]`` in RAS, None for a radiograph.
        spacing_mm: per spatial axis, None where the files do not say.

    Raises:
        SegprefError: no image, several series, a missing or doubled slice, slices that differ in size
            or orientation, frames without a place, colour, pixels without a decoder.
    """
    slices = _slices(files, name)
    if _is_flat(slices):
        header, plane = slices[0]
        array = rescaled(stored_values(header)[0], header, plane)
        return array[None], None, _pixel_size(header, plane)
    return _read_stack(name, slices)


def ordered_slices(files: Sequence[Path], name: Path) -> list[Slice]:
    """The slices of a series as they lie along the last axis of what :func:`read_files` returns.

    A radiograph is one, without a place. Errors are those of :func:`read_files`; pixels are not read.
    """
    slices = _slices(files, name)
    return slices if _is_flat(slices) else sorted_slices(name, slices)


def _slices(files: Sequence[Path], name: Path) -> list[Slice]:
    headers = [read_header(file) for file in files]
    headers = [header for header in headers if header.rows]
    _check_one_series(name, headers)
    return [(header, plane) for header in headers for plane in header.planes]


def _is_flat(slices: Sequence[Slice]) -> bool:
    return len(slices) == 1 and slices[0][1].position is None


def read_slices(
    path: Path, low_mm: float, high_mm: float, named: Collection[str] = ()
) -> tuple[
    Num[np.ndarray, "1 x y z"],
    Float[np.ndarray, "4 4"],
    tuple[float, ...] | None,
    Float[np.ndarray, " z"],
]:
    """Read the axial slices of a folder's series from one height to another; see :func:`read_files`.

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
        SegprefError: as of :func:`read_files`, but only of what is read; two slices at one height that
            nothing distinguishes.
    """
    headers = [read_header(file) for file in sorted(path.iterdir()) if is_dicom(file)]
    headers = [header for header in headers if header.rows and header.is_image]
    _check_one_series(path, headers)
    at_height: dict[float, list[Slice]] = {}
    for header in headers:
        for plane in header.planes:
            if plane.position is not None:
                at_height.setdefault(round(plane.position[2], 2), []).append((header, plane))
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
    return array, affine, spacing, heights if affine[2, 2] > 0 else heights[::-1]


def _preferred(path: Path, slices: Sequence[Slice], named: Collection[str]) -> Slice:
    """Which of the slices at one height is read."""

    def rank(one: Slice) -> tuple[bool, float]:
        instance = one[0].instance
        return one[0].sop_instance not in named, np.inf if instance is None else instance

    ranks = [rank(one) for one in slices]
    best = [one for one, own in zip(slices, ranks, strict=True) if own == min(ranks)]
    if len(best) > 1:
        raise doubled(path, best[0], best[1])
    return best[0]


def _check_one_series(name: Path, headers: Sequence[Header]) -> None:
    if not headers:
        raise SegprefError(
            f"{name} holds no DICOM image: point to the folder of one series, or to an image file"
        )
    for header in headers:
        if not header.is_image:
            raise SegprefError(
                f"{header.path} is no image ({header.kind}): point to the files of an image series"
            )
    series = {header.series: header.description for header in headers}
    if len(series) > 1:
        names = ", ".join(
            " ".join(filter(None, (text, uid))) for uid, text in sorted(series.items())
        )
        raise SegprefError(
            f"{name} holds {len(series)} DICOM series ({names}): put each in a folder of its own"
        )
    for header in headers:
        if header.frames != len(header.planes) or header.samples > 1:
            what = "a colour" if header.samples > 1 else "a multi-frame"
            place = "" if header.samples > 1 else " that does not say where its frames lie"
            raise SegprefError(
                f"{header.path} is {what} DICOM file ({header.kind}){place}: convert it to NIfTI "
                "(dcm2niix) or PNG"
            )


def _pixel_size(header: Header, plane: Plane) -> tuple[float, ...] | None:
    if plane.spacing is not None or plane.elsewhere is None:
        return plane.spacing
    sizes, where = plane.elsewhere
    warn_of_header(
        f"{header.path} states no PixelSpacing: its pixel size of {sizes[0]:g} x {sizes[1]:g} mm was "
        f"measured {where}."
    )
    return sizes


def _read_stack(name: Path, slices: Iterable[Slice]) -> _Read:
    ordered = sorted_slices(name, list(slices))
    header, plane = ordered[0]
    size = _pixel_size(header, plane)
    row, column, normal = directions(plane)
    places = np.array([one.position for _, one in ordered])
    if len(ordered) > 1:
        step = (places[-1] - places[0]) / (len(ordered) - 1)
    else:
        step = normal * (plane.thickness or 1.0)
        if plane.thickness is None:
            warn_of_header(
                f"{header.path} is one slice and states no thickness: its voxel size is unknown."
            )
    affine = np.eye(4)
    affine[:3, 0] = _TO_RAS @ (row * (size or (1.0, 1.0))[1])
    affine[:3, 1] = _TO_RAS @ (column * (size or (1.0, 1.0))[0])
    affine[:3, 2] = _TO_RAS @ step
    affine[:3, 3] = _TO_RAS @ places[0]
    planes: list[Num[np.ndarray, "x y"]] = []
    held: tuple[Path, np.ndarray] | None = None
    for header, plane in ordered:
        if held is None or held[0] != header.path:
            held = header.path, stored_values(header)
        planes.append(rescaled(held[1][plane.frame], header, plane).T)
    array = np.stack(planes, axis=-1)
    known = size is not None and (len(ordered) > 1 or ordered[0][1].thickness is not None)
    sizes = tuple(float(one) for one in affines.voxel_sizes(affine))
    return array[None], affine, sizes if known else None
