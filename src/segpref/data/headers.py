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

__all__ = ["Geometry", "header_warnings", "nifti_geometry"]

affines, ornt = late("nibabel.affines"), late("nibabel.orientations")

log = logging.getLogger(__name__)

_SLACK = 0.01
"""Voxel sizes that differ by less than this share are two roundings of one size."""

Affine = Float[np.ndarray, "4 4"]


_heard: ContextVar[list[str] | None] = ContextVar("_heard", default=None)


@contextmanager
def header_warnings() -> Iterator[list[str]]:
    """Gathers what is said of contradictory headers, for those who keep what they read."""
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

    Raises:
        SegprefError: two statements disagree and neither is trivial, or the affine has no inverse.
    """
    header, affine = image.header, np.array(image.affine, np.float64)
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise SegprefError(
            f"{path} has an affine without an inverse in its header: export it again with a valid "
            "sform or qform"
        )
    affine = _agreed(path, header, affine, space)
    # Any one of unit, size, offset, turn or code is taken as knowledge.
    unit = header.get_xyzt_units()[0]
    coded = bool(header["qform_code"] or header["sform_code"])
    spacing = affines.voxel_sizes(affine)[:space] * {"meter": 1000.0, "micron": 0.001}.get(
        unit, 1.0
    )
    unstated = np.array_equal(affine, np.eye(4)) or not coded
    if unit == "unknown" and np.all(spacing == 1) and unstated:
        return Geometry(affine, None, False)
    return Geometry(affine, tuple(float(size) for size in spacing), coded)


def _agreed(path: Path, header: Any, affine: Affine, space: int) -> Affine:
    """What sform, qform and pixdim say together; the affine that nibabel chose where they agree."""
    stated = np.abs(np.asarray(header["pixdim"][1 : 1 + space], np.float64))
    if not header["sform_code"] or not np.isfinite(stated).all() or (stated == 0).any():
        return affine
    sform, qform = affine, _qform(header)
    sizes = affines.voxel_sizes(sform)[:space]
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
    text = (
        f"{path} states two geometries, {said}: {taken}, because the other is what writers fill in by "
        "default."
    )
    log.warning("%s", text)
    if (heard := _heard.get()) is not None:
        heard.append(text)


def _times(sizes: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{size:g}" for size in sizes)
