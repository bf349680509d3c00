"""Phantoms written and opened in one call."""

from __future__ import annotations

from pathlib import Path

from segpref.data.folders import Folders
from segpref.data.phantoms.dataset import PATIENT_PATTERN, write_phantoms
from segpref.data.phantoms.patient import Kind, label_space

__all__ = ["phantoms"]


def phantoms(
    folder: Path | str,
    kind: Kind = "cardiac",
    size: tuple[int, ...] = (64, 64),
    patients: int = 24,
    seed: int = 0,
) -> Folders:
    """A dataset of generated images with labels, for a machine without data.

    Args:
        folder: where it is written; phantoms that are there already are taken as they are.
        kind: ``cardiac`` (multi-class) or ``chest`` (multi-label).
        size: pixels or voxels of an image; 2D or 3D.
        patients: how many; a cardiac one has two volumes, or two slices of each of two time points.
        seed: random seed of shapes and noise.

    Raises:
        SegprefError: the folder holds something else.
    """
    written = write_phantoms(Path(folder), kind, size, patients, seed, slices_per_patient=2)
    names = label_space(kind).names if kind == "cardiac" else ()
    return Folders(written, names=names, patient_pattern=PATIENT_PATTERN)
