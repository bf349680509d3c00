"""Folders of phantoms, in the plain layout of paired image and mask folders."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpref.data.phantoms.cardiac import Heart
from segpref.data.phantoms.chest import Chest
from segpref.data.phantoms.patient import Kind, cardiac_case, check, chest_case, label_space
from segpref.late import late
from segpref.targets import file_target
from segpref.types import Case, SegprefError

__all__ = ["PATIENT_PATTERN", "write_phantoms"]

nib = late("nibabel")

PATIENT_PATTERN = r"(phantom\d+)"
"""Finds the patient in the name of a written phantom."""

_RECIPE = 1
"""Counts changes to what is generated, so that old and new phantoms are never mixed."""


def write_phantoms(
    folder: Path | str,
    kind: Kind,
    size: tuple[int, ...],
    count: int,
    seed: int,
    *,
    slices_per_patient: int = 6,
) -> Path:
    """Write ``count`` patients to a folder; what is there already from the same call stays.

    Cardiac patients have two time points (t0 diastole, t1 systole), in 2D with
    ``slices_per_patient`` slices each, one file per slice: ``images/phantom007_t1_s3.nii.gz`` and
    ``labels/`` alike. Chest patients have one image: ``images/phantom007.png`` (16 bits) and
    ``masks/<structure>/phantom007.png``, in 3D ``.nii.gz``.

    Every file is written atomically, so an interrupted call can be repeated.

    Raises:
        SegprefError: settings that cannot be generated, or a folder that holds something else.
    """
    folder = Path(folder)
    check(kind, size, seed)
    if count < 1 or slices_per_patient < 1:
        raise SegprefError("phantoms need at least one patient and one slice per patient")
    settings: dict[str, object] = {
        "kind": kind,
        "size": list(size),
        "count": count,
        "seed": seed,
        "slices_per_patient": slices_per_patient,
        "recipe": _RECIPE,
    }
    _claim(folder, settings)
    for patient in range(count):
        name = f"phantom{patient:03d}"
        rng = np.random.default_rng([seed, patient])
        plan = (
            _cardiac(rng, name, size, slices_per_patient)
            if kind == "cardiac"
            else _chest(rng, name, size)
        )
        for image, (stem, make) in enumerate(plan):
            paths = _paths(folder, kind, stem, len(size))
            if all(path.is_file() for path in paths):
                continue
            # Its own random stream, so that a repeated call gives what an undisturbed one gives.
            case = make(np.random.default_rng([seed, patient, image]))
            for path, array in zip(paths, _arrays(case, kind), strict=True):
                _write(path, array, case)
    return folder


_Plan = Iterator[tuple[str, Callable[[np.random.Generator], Case]]]


def _cardiac(rng: np.random.Generator, name: str, size: tuple[int, ...], slices: int) -> _Plan:
    heart = Heart.draw(rng)
    levels = heart.levels(slices) if len(size) == 2 else [0.0]
    for time in (0, 1):
        for number, level in enumerate(levels):
            stem = f"{name}_t{time}_s{number}" if len(size) == 2 else f"{name}_t{time}"

            def make(
                noise: np.random.Generator,
                stem: str = stem,
                level: float = float(level),
                systole: bool = time == 1,
            ) -> Case:
                return cardiac_case(heart, stem, size, noise, level=level, systole=systole)

            yield stem, make


def _chest(rng: np.random.Generator, name: str, size: tuple[int, ...]) -> _Plan:
    chest = Chest.draw(rng)
    yield name, lambda noise: chest_case(chest, name, size, noise)


def _paths(folder: Path, kind: Kind, stem: str, dimensions: int) -> list[Path]:
    if kind == "cardiac":
        return [folder / part / f"{stem}.nii.gz" for part in ("images", "labels")]
    file = f"{stem}.png" if dimensions == 2 else f"{stem}.nii.gz"
    structures = label_space(kind).structures
    return [folder / "images" / file] + [folder / "masks" / name / file for name in structures]


def _arrays(case: Case, kind: Kind) -> list[NDArray[np.generic]]:
    assert case.label is not None
    picture = kind == "chest" and case.affine is None
    image = case.image[0].astype(np.uint16 if picture else np.int32)
    return [image, *(mask * np.uint8(255 if picture else 1) for mask in case.label)]


def _write(path: Path, array: NDArray[np.generic], case: Case) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix decides the format, so unfinished files are recognised by their beginning.
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    if path.suffix == ".png":
        Image.fromarray(array).save(draft)
    else:
        affine = case.affine
        if affine is None:
            assert case.spacing_mm is not None
            affine = np.diag([*case.spacing_mm, *[1.0] * (4 - len(case.spacing_mm))])
        nib.save(nib.Nifti1Image(array, affine), draft)
    draft.replace(file_target(path))


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Say in ``phantoms.json`` what the folder is for, or find that it is for something else."""
    file = folder / "phantoms.json"
    if file.is_file():
        try:
            same = json.loads(file.read_text()) == settings
        except ValueError:
            same = False
        if not same:
            raise SegprefError(
                f"{file} was written with other settings: choose another folder, or delete this one"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SegprefError(f"{folder} holds something else than phantoms: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{os.getpid()}-phantoms.json"
    draft.write_text(json.dumps(settings, indent=2) + "\n")
    draft.replace(file_target(file))
