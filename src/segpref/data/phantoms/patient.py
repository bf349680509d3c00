"""From the anatomy of a phantom patient to a ``Case``: axes, grey values, geometry."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from segpref.data.phantoms.appearance import Volume
from segpref.data.phantoms.cardiac import Heart
from segpref.data.phantoms.chest import Chest
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["Kind", "cardiac_case", "check", "chest_case", "label_space", "make_phantom"]

Kind = Literal["chest", "cardiac"]

_CARDIAC_MM = (170.0, 170.0, 100.0)
_CHEST_MM = (360.0, 240.0, 360.0)


def label_space(kind: Kind) -> LabelSpace:
    """What the masks of a kind of phantom mean."""
    if kind == "chest":
        names = ("left clavicle", "right clavicle", "left lung", "right lung", "heart")
        return LabelSpace("multi-label", names)
    return LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))


def make_phantom(kind: Kind, size: tuple[int, ...], seed: int) -> Case:
    """Generate one patient and one image of it; the same arguments give the same case.

    Args:
        kind: ``chest`` (multi-label) or ``cardiac`` (multi-class; a 2D case is a slice at a random
            level and time of the heart beat, and may lie beyond the apex, where nothing is left).
        size: two or three voxel counts. Axes of ``chest`` are (row, column) in 2D, otherwise RAS.
        seed: not negative.

    Returns:
        image ``[1, *size]`` of whole numbers as a file would hold them, label ``[field, *size]``,
        spacing, and in 3D the affine. A slice beyond base or apex has an empty label.

    Raises:
        SegprefError: a kind, size or seed that cannot be generated.
    """
    check(kind, size, seed)
    rng = np.random.default_rng(seed)
    name = f"phantom{seed:03d}"
    if kind == "chest":
        return chest_case(Chest.draw(rng), name, size, rng)
    heart = Heart.draw(rng)
    level, systole = float(rng.choice(heart.levels(8))), bool(rng.random() < 0.5)
    return cardiac_case(heart, name, size, rng, level=level, systole=systole)


def check(kind: str, size: tuple[int, ...], seed: int) -> None:
    """Raise a sentence about the first thing that cannot be generated."""
    if kind not in get_args(Kind):
        raise SegprefError(f"there is no phantom {kind!r}: choose 'chest' or 'cardiac'")
    if len(size) not in (2, 3) or min(size[:2]) < 16 or min(size) < 4:
        raise SegprefError(
            f"a phantom cannot have size {size}: give two or three voxel counts, at least 16 x 16"
        )
    if seed < 0:
        raise SegprefError(f"the seed of phantoms cannot be {seed}: give 0 or more")


def chest_case(chest: Chest, name: str, size: tuple[int, ...], rng: np.random.Generator) -> Case:
    """One radiograph (2D) or volume (3D) of a patient, as 16-bit grey values."""
    if len(size) == 2:
        rows, columns = size
        grey, label = chest.image((columns, 1, rows), rng)
        # x points to the patient's right and z up; a film has the patient's left on its right.
        grey = grey[::-1, 0, ::-1].T
        label = label[:, ::-1, 0, ::-1].swapaxes(1, 2)
        extent: tuple[float, ...] = (_CHEST_MM[2], _CHEST_MM[0])
    else:
        grey, label = chest.image(_three(size), rng)
        extent = _CHEST_MM
    return _case(name, np.minimum(grey * 30000, 65535), label, extent)


def cardiac_case(
    heart: Heart,
    name: str,
    size: tuple[int, ...],
    rng: np.random.Generator,
    *,
    level: float = 0.0,
    systole: bool = False,
) -> Case:
    """One slice (2D, at a ``level`` from base 0 to apex 1) or volume (3D) of a patient."""
    if len(size) == 2:
        grey, label = heart.image((*size, 1), level, systole, rng)
        grey, label = grey[..., 0], label[..., 0]
    else:
        grey, label = heart.image(_three(size), level, systole, rng)
    return _case(name, grey * heart.gain, label[np.newaxis], _CARDIAC_MM[: len(size)])


def _three(size: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = size
    return x, y, z


def _case(
    name: str, grey: Volume, label: NDArray[np.generic], extent_mm: tuple[float, ...]
) -> Case:
    spacing = tuple(mm / count for mm, count in zip(extent_mm, grey.shape, strict=True))
    affine = None
    if grey.ndim == 3:
        # float32, for a NIfTI header holds no more.
        affine = np.diag([*spacing, 1.0]).astype(np.float32).astype(np.float64)
        affine[:3, 3] = np.asarray([-mm / 2 for mm in extent_mm], np.float32)
        spacing = tuple(float(step) for step in np.diag(affine)[:3])
    return Case(
        id=name,
        patient=name.split("_", 1)[0],
        volume=name,
        image=np.ascontiguousarray(np.rint(grey), np.float32)[np.newaxis],
        label=np.ascontiguousarray(label, np.uint8),
        spacing_mm=spacing,
        affine=affine,
    )
