"""Writes masks with exactly the geometry of their input."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from segpref.data.masks import mask_paths
from segpref.data.volumes import file_stem, is_nifti, read_volume
from segpref.late import late
from segpref.targets import file_target
from segpref.types import IGNORE, Case, LabelSpace, SegprefError

__all__ = ["Geometry", "kept_header", "write_map", "write_mask"]

nib, tifffile = late("nibabel"), late("tifffile")

_LOSSLESS = (".png", ".tif", ".tiff", ".bmp")


def write_mask(
    path: Path | str,
    mask: UInt8[np.ndarray, "field *space"],
    label_space: LabelSpace,
    like: Case | Path | str | Geometry,
) -> tuple[Path, ...]:
    """Write a mask; structures that may overlap go to one file each.

    NIfTI (``.nii``, ``.nii.gz``): where ``like`` is a NIfTI file, affine, qform, sform, their codes,
    voxel sizes and units are copied from its header without arithmetic; where it is a DICOM series
    or a case, the affine is written as sform and qform in millimetres. Pictures (``.png``, ``.tif``,
    ``.bmp``): classes as grey levels, or 0 and 255 per structure; a stack of pages as TIFF. Classes
    have the values that they have on disk (:attr:`~segpref.types.LabelSpace.on_disk`).

    A file is written atomically. Folders are made where they are missing.

    Args:
        path: the file to write; see :func:`mask_paths` for several structures.
        mask: uint8, on the grid of ``like``.
        label_space: what its values mean.
        like: the input file or DICOM folder, which is read; or the case that was read from it, or
            :func:`kept_header` of both.

    Returns:
        The files written, in the order of the fields.

    Raises:
        SegprefError: a mask of another shape than its input, a format that cannot hold it, or a
            place that cannot be written to.
    """
    target, paths, geometry = _checked(path, mask, label_space, like)
    if is_nifti(target):
        values = label_space.to_disk(mask)
        image_of = _nifti_writer(target, geometry, values.dtype.type)
        for file, labels in zip(paths, values, strict=True):
            _write(file, image_of(labels).to_filename)
        return paths
    _check_picture(target, mask, label_space)
    for file, labels in zip(paths, label_space.to_disk(mask), strict=True):
        pixels = labels if label_space.kind == "multi-class" else labels * np.uint8(255)
        _write(file, _picture_writer(file, pixels))
    return paths


def write_map(
    path: Path | str,
    values: Float[np.ndarray, "field *space"],
    label_space: LabelSpace,
    like: Case | Path | str | Geometry,
) -> tuple[Path, ...]:
    """Write numbers per voxel, such as probabilities, as float32: NIfTI or TIFF.

    Names, geometry and errors are those of :func:`write_mask`.
    """
    target, paths, geometry = _checked(path, values, label_space, like)
    if not is_nifti(target) and target.suffix.lower() not in (".tif", ".tiff"):
        raise SegprefError(
            f"{target} is not a format that keeps numbers: choose .nii.gz, .nii or .tif"
        )
    for file, plane in zip(paths, values.astype(np.float32), strict=True):
        if is_nifti(target):
            _write(file, _nifti_writer(target, geometry, np.float32)(plane).to_filename)
        else:
            _write(file, _picture_writer(file, plane))
    return paths


def kept_header(path: Path, case: Case) -> Geometry:
    """The geometry of a NIfTI file whose case was read: the header alone is read again."""
    stated = case.spacing_mm is not None
    return Geometry(str(path), case.image.shape[1:], case.affine, stated, nib.load(path))


def _checked(
    path: Path | str, array: np.ndarray, label_space: LabelSpace, like: Case | Path | str | Geometry
) -> tuple[Path, tuple[Path, ...], Geometry]:
    """The file, its files per structure, and the geometry, which must be the array's."""
    paths = mask_paths(path, label_space)
    if len(array) != len(paths):
        raise SegprefError(
            f"{path} should hold {len(paths)} fields but the mask has {len(array)}: use the label "
            "space that the mask was made with"
        )
    geometry = _geometry(like)
    if geometry.shape != array.shape[1:]:
        raise SegprefError(
            f"{path} should hold a mask of shape {array.shape[1:]} but its image {geometry.name} has "
            f"{geometry.shape}: bring the mask back to the image's grid first"
        )
    return Path(path), paths, geometry


class Geometry(NamedTuple):
    """What a mask takes from its input."""

    name: str
    shape: tuple[int, ...]
    affine: Float[np.ndarray, "4 4"] | None
    stated: bool
    """Whether the affine is in millimetres, and not merely what a file without geometry holds."""
    original: Any
    """The NIfTI image whose header is to be kept, or None."""


def _geometry(like: Case | Path | str | Geometry) -> Geometry:
    if isinstance(like, Geometry):
        return like
    if isinstance(like, Case):
        stated = like.spacing_mm is not None
        return Geometry(like.id, like.image.shape[1:], like.affine, stated, None)
    source = Path(like)
    volume = read_volume(source)
    original = nib.load(source) if is_nifti(source) and source.is_file() else None
    stated = volume.spacing_mm is not None
    return Geometry(str(source), volume.array.shape[1:], volume.affine, stated, original)


def _write(path: Path, save: Callable[[Path], Any]) -> None:
    ending = path.name[len(file_stem(path)) :]
    target = file_target(path)
    part = target.with_name(f".{uuid.uuid4().hex}{ending}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save(part)
        part.replace(target)
    except OSError as error:
        raise SegprefError(
            f"{path} cannot be written ({error.strerror or error}): choose a folder that you may write "
            "to and that has space left"
        ) from error
    finally:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)


def _nifti_writer(
    path: Path, geometry: Geometry, dtype: type[np.generic]
) -> Callable[[np.ndarray], Any]:
    if geometry.affine is None:
        raise SegprefError(
            f"{path} should be NIfTI but {geometry.name} is a picture without geometry: write PNG or "
            "TIFF"
        )
    if geometry.original is None:
        return lambda labels: _with_affine(labels, geometry)
    header = geometry.original.header.copy()
    header.set_data_dtype(dtype)
    header.set_slope_inter(None, None)
    header["cal_min"] = header["cal_max"] = 0
    header.extensions.clear()  # they may carry the patient's name
    # Without an affine nibabel leaves the header's qform and sform untouched to the last bit.
    return lambda labels: type(geometry.original)(labels, None, header)


def _with_affine(labels: np.ndarray, geometry: Geometry) -> Any:
    image = nib.Nifti1Image(labels, geometry.affine)
    if geometry.stated:
        image.set_sform(geometry.affine, code="scanner")
        image.set_qform(geometry.affine, code="scanner", strip_shears=True)
        image.header.set_xyzt_units("mm")
    return image


def _check_picture(path: Path, mask: UInt8[np.ndarray, "f *s"], label_space: LabelSpace) -> None:
    ending = path.suffix.lower()
    if ending not in _LOSSLESS:
        raise SegprefError(
            f"{path} is not a format that keeps masks exactly: choose .nii.gz, .nii, .png, .tif or .bmp"
        )
    if mask.ndim != 3 and not (mask.ndim == 4 and ending in (".tif", ".tiff")):
        raise SegprefError(
            f"{path} cannot hold a mask of {mask.ndim - 1} axes: choose .nii.gz, or .tif for a stack "
            "of pages"
        )
    if max(label_space.disk_values) > IGNORE and ending == ".bmp":
        raise SegprefError(f"{path} has no room for values above 255: choose .png or .tif")
    if label_space.kind == "multi-label" and (mask == IGNORE).any():
        raise SegprefError(
            f"{path} cannot tell ignored pixels from a structure: choose .nii.gz for this mask"
        )


def _picture_writer(path: Path, pixels: np.ndarray) -> Callable[[Path], Any]:
    if path.suffix.lower() in (".tif", ".tiff"):
        return lambda part: tifffile.imwrite(part, pixels, photometric="minisblack")
    return lambda part: Image.fromarray(pixels).save(part)
