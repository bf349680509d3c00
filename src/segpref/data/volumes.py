"""One image file, or one DICOM series, as an array with the geometry that its file states."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from segpref.data.dicom import read_files
from segpref.data.dicom_marks import is_dicom
from segpref.data.dicom_series import Series
from segpref.data.headers import nifti_geometry
from segpref.data.itk_files import is_itk, read_itk
from segpref.data.other_formats import content_format
from segpref.data.pictures import Colours, read_picture
from segpref.data.series_rule import ANY_SERIES, one_series
from segpref.disk import refuse_scarcity
from segpref.late import late
from segpref.targets import refuse_special
from segpref.types import SegprefError

__all__ = [
    "NIFTI_SUFFIXES",
    "PICTURE_SUFFIXES",
    "Colours",
    "VolumeFile",
    "file_stem",
    "has_image_name",
    "is_nifti",
    "is_picture",
    "read_volume",
]

nib = late("nibabel")

NIFTI_SUFFIXES = (".nii", ".nii.gz")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")


class VolumeFile(NamedTuple):
    """What a file holds.

    Args:
        array: ``[channel, *space]`` in the file's own number type. Axes of volumes are (x, y, z) as
            nibabel orders them, those of pictures (row, column).
        affine: ``[4, 4]`` voxel to world (RAS, mm) as the file states it; None for pictures.
        spacing_mm: voxel size per spatial axis; None where the file does not say.
        oriented: whether the affine says where the axes point to, and not only sizes.
        colour: whether the channels are red, green and blue.
    """

    array: Num[np.ndarray, "channel *space"]
    affine: Float[np.ndarray, "4 4"] | None
    spacing_mm: tuple[float, ...] | None
    oriented: bool = True
    colour: bool = False


def is_nifti(path: Path) -> bool:
    """Whether the name says NIfTI."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def has_image_name(path: Path) -> bool:
    """Whether the name is that of an image in any of the formats but DICOM."""
    return is_nifti(path) or is_picture(path) or is_itk(path)


def is_picture(path: Path) -> bool:
    """Whether the name says PNG, JPEG, TIFF, BMP or GIF."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def file_stem(path: Path) -> str:
    """File name without its ending, where ``.nii.gz`` and ``.seg.nrrd`` count as one ending each."""
    if path.name.lower().endswith(".seg.nrrd"):
        return path.name[:-9]
    return path.name[:-7] if _is_packed(path) else path.stem


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".nii.gz")


def read_volume(path: Path | str | Series, colours: Colours = "channels") -> VolumeFile:
    """Read a NIfTI, MetaImage or NRRD file, a picture, a DICOM file, or a DICOM series.

    Args:
        path: the file, the folder of one DICOM series, or the series.
        colours: of pictures only. ``channels`` makes a channel of each colour, ``grey`` one channel
            of luminance, ``labels`` one channel of palette indices or grey levels as stored, ``mask``
            one channel of grey levels in which one colour on black is white.

    Raises:
        SegprefError: nothing there, no permission, a format that is not known, a damaged file, or
            pixels that are not finite.
    """
    series = path if isinstance(path, Series) else None
    path = path.folder if isinstance(path, Series) else Path(path)
    try:
        if series is None:
            _check_there(path)
        elif len(series.files) == 1:
            path = series.files[0]
            _check_there(path)
        if series is None and path.is_dir():
            series = one_series(path, ANY_SERIES)
        if series is not None:
            volume = VolumeFile(*read_files(series.files, path))
        elif is_itk(path):
            volume = VolumeFile(*read_itk(path))
        elif not (is_nifti(path) or is_picture(path)):
            volume = VolumeFile(*read_files([path], path))
        elif is_nifti(path):
            volume = _read_nifti(path)
        else:
            volume = VolumeFile(read_picture(path, colours), None, None)
    except SegprefError:
        raise
    except PermissionError as error:
        raise SegprefError(
            f"{error.filename or path} can't be read: ask for the permission to read it"
        ) from error
    except MemoryError as error:
        raise SegprefError(
            f"{path} does not fit into memory, or its header is damaged: crop it or export it again"
        ) from error
    except Exception as error:  # a damaged file makes the libraries stumble in any way
        refuse_scarcity(path, error)
        raise _damaged(path, error) from error
    _check_numbers(path, volume.array)
    return volume


def _check_there(path: Path) -> None:
    if path.is_dir():
        return
    refuse_special(path)
    if not path.is_file():
        state = "is a link that leads nowhere" if path.is_symlink() else "does not exist"
        raise SegprefError(f"{path} {state}: correct the path or restore the file")
    if path.stat().st_size == 0:
        raise SegprefError(f"{path} is empty: copy or export it again")
    path.open("rb").close()  # libraries wrap a missing permission in errors of their own
    if not (has_image_name(path) or is_dicom(path)):
        raise SegprefError(
            f"{path} is not an image that can be read: convert it to NIfTI (.nii, .nii.gz), DICOM, "
            "MetaImage, NRRD, PNG, JPEG, TIFF, BMP or GIF"
        )


def _check_numbers(path: Path, array: Num[np.ndarray, "..."]) -> None:
    if array.dtype.kind not in "buif":
        raise SegprefError(
            f"{path} holds {array.dtype} pixels: save it with one real number per voxel"
        )
    if not np.issubdtype(array.dtype, np.floating) or np.isfinite(array).all():
        return
    count = int(np.count_nonzero(~np.isfinite(array)))
    raise SegprefError(
        f"{path} is NaN or infinite in {count} of {array.size} pixels: replace them with a finite "
        "value, such as that of the background"
    )


def _damaged(path: Path, error: Exception) -> SegprefError:
    kind = "NIfTI" if is_nifti(path) else "picture" if is_picture(path) else "DICOM"
    kind = path.suffix[1:].upper() if is_itk(path) else kind
    own = {
        "picture": ("PNG", "JPEG"),
        "NRRD": ("NRRD",),
        "NHDR": ("NRRD",),
        "NIfTI": ("gzip",) if _is_packed(path) else ("NIfTI",),
    }
    if (found := content_format(path)) not in (None, *own.get(kind, ("DICOM",))):
        return SegprefError(
            f"{path} is {found} by its content: give it the ending of its format, or convert it"
        )
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return SegprefError(
        f"{path} is cut off, damaged or no {kind} file ({reason[:120]}): copy or export it again"
    )


def _whole_array(path: Path, image: Any) -> np.ndarray:
    """All voxels, and of a compressed file its end, too, where the checksum of what was read stands."""
    if not _is_packed(path):
        return np.asarray(image.dataobj)
    with gzip.open(path) as file:
        holder = nib.FileHolder(str(path), file)
        array = np.asarray(type(image).from_file_map({"image": holder}, mmap=False).dataobj)
        while file.read(1 << 20):
            pass
    return array


def _read_nifti(path: Path) -> VolumeFile:
    # Not MONAI's NibabelReader: it rewrites headers whose pixdim and affine differ, and a mask must
    # go back with the very geometry that the file states.
    # Read, not mapped: a file that is cut short meanwhile is an error then, not a signal.
    image: Any = nib.load(path, mmap=False)
    array = _whole_array(path, image)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise SegprefError(
            f"{path} has the shape {array.shape}: save it with two or three spatial axes and at most "
            "one axis of channels"
        )
    array = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    return VolumeFile(array, *nifti_geometry(path, image, array.ndim - 1))
