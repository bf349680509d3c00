"""Whether a mask lies on the voxels of its image, and what to do if it does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segpref.data.orientation import axes_of
from segpref.data.volumes import VolumeFile
from segpref.types import SegprefError

__all__ = ["check_grid"]


def check_grid(image: VolumeFile, image_path: Path, mask: VolumeFile, mask_path: Path) -> None:
    """Raise unless both lie on the same voxels: same shape, affines and units.

    Affines are equal to 1e-3 of a voxel, or of 1 where voxels are larger, and to the precision of the
    numbers in headers.
    """
    here, there = mask.array.shape[1:], image.array.shape[1:]
    if here != there:
        turned = mask.affine is None and here == there[::-1]
        remedy = (
            "one of them seems to be turned by a quarter, turn it as viewers show the other"
            if turned
            else "export both on one grid"
        )
        raise SegprefError(
            f"{mask_path} has {_times(here)} pixels but its image {image_path.name} has "
            f"{_times(there)}: {remedy}"
        )
    if (mask.affine is None) != (image.affine is None):
        raise SegprefError(
            f"{mask_path} and its image {image_path.name} are of different formats whose axes differ: "
            "save both as NIfTI, or both as pictures"
        )
    if mask.affine is None or image.affine is None:
        return
    if _same_grid(mask.affine, image.affine):
        own_mm, due_mm = mask.spacing_mm, image.spacing_mm
        if own_mm and due_mm and not np.allclose(own_mm, due_mm, rtol=1e-2, atol=0):
            raise SegprefError(
                f"{mask_path} and its image {image_path.name} have the same voxels in different units "
                f"of length ({own_mm} and {due_mm} mm): correct the unit in one header"
            )
        return
    for lost, kept, path, other in (
        (mask, image, mask_path, image_path.name),
        (image, mask, image_path, mask_path.name),
    ):
        if _without_geometry(lost) and not _without_geometry(kept):
            raise SegprefError(
                f"{path} has lost its geometry (its header says no more than voxels of 1) while "
                f"{other} has one: if both show the same voxels, copy the header of {other}"
            )
    own, due = axes_of(mask.affine), axes_of(image.affine)
    remedy = (
        f"its axes point to {own} and the image's to {due}, turn one as the other"
        if own != due
        else "resample one onto the other"
    )
    raise SegprefError(
        f"{mask_path} is not aligned with its image {image_path.name} (their affines differ by up to "
        f"{np.abs(mask.affine - image.affine).max():.3g}): {remedy}"
    )


def _same_grid(one: np.ndarray, other: np.ndarray) -> bool:
    smallest = float(np.linalg.norm(other[:3, :3], axis=0).min())
    return np.allclose(one, other, rtol=1e-6, atol=1e-3 * min(1.0, smallest))


def _without_geometry(volume: VolumeFile) -> bool:
    """Whether the header holds what writers fill in: no turn, no offset, and voxels of 1."""
    assert volume.affine is not None
    return not volume.oriented or np.array_equal(np.abs(volume.affine), np.eye(4))


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
