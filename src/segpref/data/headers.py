"""The geometry of a NIfTI file, also if its header contradicts itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from segpref.late import late
from segpref.types import SegprefError

__all__ = ["Geometry", "header_warnings", "nifti_geometry", "warn_of_header"]

affines, ornt = late("nibabel.affines"), late("nibabel.orientations")

log = logging.getLogger(__name__)

_SLACK = 0.01
"""Voxel sizes that differ by less than this share are two roundings of one size."""

_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Codes of xyzt_units in millimetres; 0 is unknown, where millimetres are usual."""

_LARGEST_MM = 100.0
"""No image has larger voxels: a header with such numbers in metres means millimetres."""

Affine = Float[np.ndarray, "4 4"]


_heard: ContextVar[list[str] | None] = ContextVar("_heard", default=None)


@contextmanager
def header_warnings() -> Iterator[list[str]]:
    """Gathers what is said of doubtful headers, for those who keep what they read."""
    heard: list[str] = []
    before = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(before)


class Geometry(NamedTuple):
    """Where voxels lie.

    Args:
        affine: ``[4, 4]`` voxel to world (RAS, in the header's unit).
        spacing_mm: voxel size per spatial axis; None where the header does not tell.
        oriented: whether the header says where the axes point to.
    """

    affine: Affine
    spacing_mm: tuple[float, ...] | None
    oriented: bool


def nifti_geometry(path: Path, image: Any, space: int) -> Geometry:
    """Geometry of an image that nibabel has opened.

    A header states a voxel size up to twice: in the sform, and in pixdim, which belongs to the qform.
    Where they disagree and one of them is 1 along every axis, which is what writers fill in, the other
    one is taken, with a warning. The same holds for two directions, one of which is no turn and no
    offset at all.

    Args:
        path: for messages.
        image: the image.
        space: its number of spatial axes.

    pixdim counts as it is in the file. nibabel would make sizes of 0 to sizes of 1: where there is no
    sform beside them, sizes that are all 0 are unknown, and others that are none are refused.

    Raises:
        SegprefError: two statements disagree and neither is trivial, a size or a unit is none, the
            affine has no inverse, or voxels would begin within the header.
    """
    header, affine, raw = image.header, np.array(image.affine, np.float64), _as_written(image)
    _check_offset(path, image, raw)
    code = int(raw["xyzt_units"]) & 7
    if code not in _UNITS_MM:
        raise SegprefError(
            f"{path} states a unit of length with the code {code}, which NIfTI does not have: set "
            "xyzt_units to millimetres (2), or to the unit that is right"
        )
    stated = np.abs(np.asarray(raw["pixdim"][1 : 1 + space], np.float64))
    sized = bool(np.isfinite(stated).all() and (stated > 0).all())
    coded = bool(header["qform_code"] or header["sform_code"])
    if not sized and not header["sform_code"]:
        if coded or stated.any():
            raise SegprefError(
                f"{path} states voxels of {_times(stated)} in its pixdim and has no sform: export it "
                "again with the true sizes"
            )
        return Geometry(affine, None, False)
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise SegprefError(
            f"{path} has an affine without an inverse in its header: export it again with a valid "
            "sform or qform"
        )
    if header["sform_code"] and sized:
        affine = _agreed(path, header, affine, stated)
    # Any one of unit, size, offset, turn or code is taken as knowledge.
    spacing = affines.voxel_sizes(affine)[:space] * _UNITS_MM[code]
    if code == 1 and spacing.max() > _LARGEST_MM:
        raise SegprefError(
            f"{path} states voxels of {_times(spacing)} mm, in metres: correct its sizes, or set "
            "xyzt_units to millimetres (2)"
        )
    unstated = np.array_equal(affine, np.eye(4)) or not coded
    if code == 0 and np.all(spacing == 1) and unstated:
        return Geometry(affine, None, False)
    return Geometry(affine, tuple(float(size) for size in spacing), coded)


def _as_written(image: Any) -> Any:
    """The header without what nibabel puts right when it loads a file."""
    holder = image.file_map.get("header", image.file_map["image"])
    if holder.filename is None and holder.fileobj is None:
        return image.header
    with holder.get_prepare_fileobj("rb") as file:
        return type(image.header).from_fileobj(file, check=False)


def _check_offset(path: Path, image: Any, raw: Any) -> None:
    first = image.header_class.single_vox_offset
    if image.file_map["image"].filename is not None and not raw["vox_offset"] >= first:
        raise SegprefError(
            f"{path} says that its voxels begin at byte {raw['vox_offset']:g}, which is in its header "
            f"of {first}: export it again"
        )


def _agreed(path: Path, header: Any, affine: Affine, stated: Float[np.ndarray, " space"]) -> Affine:
    """What sform, qform and pixdim say together; the affine that nibabel chose where they agree."""
    sform, qform = affine, _qform(header)
    sizes = affines.voxel_sizes(sform)[: len(stated)]
    if np.allclose(sizes, stated, rtol=_SLACK):
        return _one_direction(path, sform, qform)
    said = f"voxels of {_times(sizes)} in its sform and of {_times(stated)} in its pixdim"
    if np.allclose(sizes, 1, rtol=1e-6):
        _warn(path, said, "the second is taken")
        return _scaled(sform, stated) if qform is None else qform
    if np.allclose(stated, 1, rtol=1e-6):
        _warn(path, said, "the first is taken")
        return sform
    raise SegprefError(
        f"{path} states two geometries, {said}: find out which is right and export it with that one "
        "in both"
    )


def _one_direction(path: Path, sform: Affine, qform: Affine | None) -> Affine:
    if qform is None or np.array_equal(ornt.io_orientation(sform), ornt.io_orientation(qform)):
        return sform
    said = f"axes that point to {_codes(sform)} in its sform and to {_codes(qform)} in its qform"
    if _plain(sform) and not _plain(qform):
        _warn(path, said, "the second is taken")
        return qform
    if _plain(qform) and not _plain(sform):
        _warn(path, said, "the first is taken")
        return sform
    raise SegprefError(
        f"{path} states two geometries, {said}: find out which is right and export it with that one "
        "in both"
    )


def _qform(header: Any) -> Affine | None:
    try:
        found: Affine | None = header.get_qform(coded=True)[0]
    except ValueError:  # a quaternion that is none
        return None
    return found


def _scaled(affine: Affine, sizes: Float[np.ndarray, " space"]) -> Affine:
    """The affine with these voxel sizes in place of 1."""
    scaled = affine.copy()
    scaled[:3, : len(sizes)] *= sizes
    return scaled


def _plain(affine: Affine) -> bool:
    """Whether it neither turns, mirrors nor moves anything."""
    sizes = np.diag([*affines.voxel_sizes(affine), 1])
    return bool(np.allclose(affine, sizes, atol=1e-6))


def _codes(affine: Affine) -> str:
    return "".join(ornt.aff2axcodes(affine))


def _warn(path: Path, said: str, taken: str) -> None:
    warn_of_header(
        f"{path} states two geometries, {said}: {taken}, because the other is what writers fill in by "
        "default."
    )


def warn_of_header(text: str) -> None:
    """Warn of what a header says, now and whenever the image comes from the cache."""
    log.warning("%s", text)
    if (heard := _heard.get()) is not None:
        heard.append(text)


def _times(sizes: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{size:g}" for size in sizes)
