"""MetaImage and NRRD files (.mha, .mhd, .nrrd, .nhdr, .seg.nrrd), read by SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from segpref.extras import needed
from segpref.types import SegprefError

__all__ = ["ITK_SUFFIXES", "data_files", "is_itk", "read_itk"]

ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")

_READERS = {
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
}

_DETACHED = re.compile(r"^\s*(?:ElementDataFile\s*=|data ?file:)\s*(.+?)\s*$", re.I | re.M)
_HEADER_BYTES = 65536


def is_itk(path: Path) -> bool:
    """Whether the name says MetaImage or NRRD."""
    return path.suffix.lower() in ITK_SUFFIXES


def data_files(path: Path) -> tuple[Path, ...]:
    """The files that hold the voxels of a .mhd or .nhdr header; none where the file itself does."""
    if path.suffix.lower() not in (".mhd", ".nhdr") or not path.is_file():
        return ()
    with path.open("rb") as file:
        text = file.read(_HEADER_BYTES).decode("utf-8", "replace")
    found = _DETACHED.search(text)
    if found is None or found[1].upper() == "LOCAL":
        return ()
    if found[1].upper() == "LIST" or "%" in found[1]:
        return tuple(sorted(one for one in path.parent.iterdir() if one.is_file() and one != path))
    there = path.parent / found[1]
    return (there,) if there.is_file() else ()


def read_itk(
    path: Path,
) -> tuple[
    Num[np.ndarray, "channel *space"], Float[np.ndarray, "4 4"], tuple[float, ...] | None, bool
]:
    """Read a file as nibabel reads NIfTI: axes (x, y, z), world coordinates in RAS.

    Returns:
        array: ``[channel, x, y]`` or ``[channel, x, y, z]``.
        affine: ``[4, 4]`` in RAS.
        spacing_mm: per spatial axis; None where all sizes are 1 and nothing is turned or moved, which
            is what is read where a file states nothing.
        oriented: whether the affine says where the axes point to.

    Raises:
        SegprefError: SimpleITK is not installed; overlapping segments; neither two nor three axes.
    """
    sitk = needed("SimpleITK", "dicom")
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_READERS[path.suffix.lower()])
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:  # its last line says what is wrong
        raise ValueError(str(error).splitlines()[-1].rpartition("): ")[2]) from error
    space = image.GetDimension()
    if space not in (2, 3):
        raise SegprefError(
            f"{path} has {space} axes: save each time point, or each channel, as a file of its own"
        )
    channels = image.GetNumberOfComponentsPerPixel()
    if channels > 1 and path.name.lower().endswith(".seg.nrrd"):
        raise SegprefError(
            f"{path} holds segments that overlap, in {channels} layers: export each segment as a "
            "binary mask of its own (masks/STRUCTURE/NAME.nrrd)"
        )
    array = sitk.GetArrayFromImage(image)
    array = np.moveaxis(array, -1, 0) if channels > 1 else array[None]
    array = np.transpose(array, (0, *range(space, 0, -1)))
    flips = np.array([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    sizes = np.array(image.GetSpacing())
    directions = np.array(image.GetDirection()).reshape(space, space)
    affine[:space, :space] = flips[:space, None] * (directions * sizes)
    affine[:space, 3] = flips[:space] * np.array(image.GetOrigin())
    trivial = (sizes == 1).all() and np.array_equal(directions, np.eye(space))
    if trivial and not np.any(image.GetOrigin()):
        return array, affine, None, False
    return array, affine, tuple(float(size) for size in sizes), space == 3
