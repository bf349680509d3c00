"""MetaImage and NRRD files (.mha, .mhd, .nrrd, .nhdr, .seg.nrrd), read by SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from segpref.extras import needed
from segpref.targets import refuse_special
from segpref.types import SegprefError

__all__ = ["ITK_SUFFIXES", "data_files", "is_itk", "read_itk"]

ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")

_READERS = {
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
}

_OWN = re.compile(rb"^ElementDataFile[ \t]*=[ \t]*LOCAL[ \t]*\r?$", re.M)
"""Where the header of a MetaImage ends whose voxels follow it."""

_BLANK = re.compile(rb"\r?\n\r?\n")
"""Where the header of an NRRD file ends."""

_NAMED = re.compile(
    rb"^\s*(?:ElementDataFile\s*[=:]|data ?file:)[ \t]*(.*?)[ \t]*\r?$", re.I | re.M
)
_HEADER_BYTES = 65536


def is_itk(path: Path) -> bool:
    """Whether the name says MetaImage or NRRD."""
    return path.suffix.lower() in ITK_SUFFIXES


def data_files(path: Path) -> tuple[Path, ...]:
    """The file beside a header that holds its voxels; none where the file itself does.

    A header can name any file of the machine, and what is read of it would end up in masks. So only
    one in the header's folder, or below it, is read.

    Raises:
        SegprefError: it names a file elsewhere, several, or one that is not there.
    """
    if not is_itk(path) or not path.is_file():
        return ()
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    end = (_OWN if path.suffix.lower() in (".mha", ".mhd") else _BLANK).search(head)
    if end is None and len(head) == _HEADER_BYTES:
        raise SegprefError(f"{path} has a header without an end: export it again")
    names = [name.decode("utf-8", "replace") for name in _NAMED.findall(head[: end and end.end()])]
    names = [name for name in names if name.upper() != "LOCAL"]
    if not names:
        return ()
    if len(names) > 1 or names[0].upper().startswith("LIST") or "%" in names[0]:
        raise SegprefError(f"the voxels of {path} are in several files: save it with all in one")
    there = path.parent / names[0]
    if Path(names[0]).is_absolute() or ".." in there.relative_to(path.parent).parts:
        raise SegprefError(
            f"{path} says that its voxels are in {names[0]}, outside its folder: put that file beside "
            "it, and its name alone into the header"
        )
    refuse_special(there)
    if not there.is_file():
        raise SegprefError(
            f"{there}, which holds the voxels of {path.name}, is not there: restore it"
        )
    return (there,)


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
        SegprefError: SimpleITK is not installed; overlapping segments; neither two nor three axes; a
            file of voxels that is not read (:func:`data_files`).
    """
    data_files(path)
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
