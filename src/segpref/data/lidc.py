"""LIDC-IDRI lung nodules as crops: PNG slices with up to four raters' masks (Armato et al., 2011)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from segpref.checking import checked
from segpref.data.cases import read_binary
from segpref.data.dataset import Dataset
from segpref.data.index import dataset_folder, index, required, source_id
from segpref.data.prompts import CHARACTERISTICS, nodule_prompt
from segpref.data.source import Source
from segpref.data.volumes import VolumeFile, is_picture, read_volume
from segpref.data.walk import entries
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["LIDC", "consensus_label", "middle_slices", "nodule_folders"]

NODULE = LabelSpace("multi-label", ("nodule",))


@dataclass(frozen=True, slots=True)
class _Note:
    """What attributes.csv says about one mask of a nodule."""

    prompt: str
    pixel_mm: float | None
    imperfect: bool


@checked(consensus={"least": 0, "most": 1})
class LIDC:
    """Nodule crops: ``LIDC-IDRI-XXXX/nodule-K/{images,mask-0..mask-3}/slice-J.png``, masks 0 and 255.

    A source is a nodule, its image the stack of its slices in the order of J, axes (row, column,
    slice), its ``raters`` the masks ``[rater, 1, row, column, slice]``. ``mask-k`` is no person: the
    same index may be another person in another scan.

    ``attributes.csv``, where it is there, has one row per mask that a radiologist drew, with the
    characteristics that he gave; they become the lines of ``case.text``
    (:func:`~segpref.data.prompts.prompts_of`). A mask without a row and without a pixel is padding.

    **Empty masks are annotations.** In LIDC four radiologists read every scan, so that one who drew
    nothing says that there is no nodule of 3 mm or more. With ``padded`` (as in TDG-DiffDPO, Appendix
    A.1) he is a rater with an empty mask and without a text; without it he is left out. On a slice
    where a rater ended his outline, his mask is empty either way.

    The size of a pixel is known from ``attributes.csv``; the distance between slices is not (the slice
    thickness there need not be it), so the third number of ``spacing_mm`` is NaN. Use it in 2D.

    Args:
        root: folder of the patients.
        consensus: share of the raters who must mark a pixel for it to be in ``case.label``, which
            segmenters are trained on; 0 for no label.
        padded: whether raters who did not mark the nodule count, with empty masks.
        exact: leave out nodules with a mask that is an imperfect copy of the published annotation
            (``n_inexact_slices`` > 0 or ``mixed_scans`` = 1), or with masks that no row describes.
            Evaluate with it.
    """

    channels: tuple[str, ...] = ("CT",)
    patients_known: bool = True
    label_space: LabelSpace = NODULE

    def __init__(
        self,
        root: Path | str,
        consensus: float = 0.5,
        padded: bool = True,
        exact: bool = False,
    ) -> None:
        folder = dataset_folder(root, "LIDC-IDRI-0001/nodule-0/images and its neighbours")
        self.consensus, self.padded, self.exact = consensus, padded, exact
        table = folder / "attributes.csv"
        self._notes = _read_notes(table) if table.is_file() else {}
        nodules = nodule_folders(folder)
        sources = [_source(path, self._told(path)) for path in nodules]
        self._folders = {source.id: path for source, path in zip(sources, nodules, strict=True)}
        #: Ids of nodules that evaluation should leave out; empty without attributes.csv.
        self.imperfect: frozenset[str] = frozenset(
            name for name in self._folders if self._notes and self._is_imperfect(name)
        )
        if exact and not self._notes:
            raise SegprefError(
                f"{table} is needed to distinguish exact copies from others: restore it or set "
                f"exact to false"
            )
        kept = [source for source in sources if not (exact and source.id in self.imperfect)]
        self._sources = index(folder, kept, "nodule (patient/nodule-K/images/slice-J.png)")

    def sources(self) -> Sequence[Source]:
        """One source per nodule; ``images`` and ``labels`` are its slices and masks."""
        return self._sources

    def read(self, source: Source) -> Case:
        """All slices of a nodule with its raters, their prompts and the consensus as label."""
        image = _stack([_picture(path)[0] for path in source.images])
        slices = len(source.images)
        raters = []
        notes = self._of_nodule(source.id)
        for number, first in enumerate(range(0, len(source.labels), slices)):
            files = source.labels[first : first + slices]
            mask = _stack([_mask(path, image.shape[:2]) for path in files])
            note = notes.get(number)
            if note is None and not mask.any() and not self.padded:
                continue
            raters.append(mask[None].astype(np.uint8))
        pixel_mm = _pixel_mm(notes)
        rated = np.stack(raters) if raters else None
        return Case(
            id=source.id,
            patient=source.patient,
            volume=source.id,
            image=image[None].astype(np.float32),
            label=None if rated is None else consensus_label(rated, self.consensus),
            raters=rated,
            spacing_mm=None if pixel_mm is None else (pixel_mm, pixel_mm, np.nan),
            stratum=source.stratum,
            text=source.text,
        )

    def _of_nodule(self, name: str) -> Mapping[int, _Note]:
        return self._told(self._folders[name])

    def _told(self, nodule: Path) -> Mapping[int, _Note]:
        return self._notes.get((nodule.parent.name, nodule.name.removeprefix("nodule-")), {})

    def _is_imperfect(self, name: str) -> bool:
        notes = self._of_nodule(name)
        return not notes or any(note.imperfect for note in notes.values())


def nodule_folders(folder: Path) -> list[Path]:
    """The folders ``PATIENT/nodule-K`` of the crops, sorted."""
    patients = [path for path in entries(folder) if path.is_dir()]
    return [
        path
        for patient in patients
        for path in entries(patient)
        if path.name.startswith("nodule-") and path.is_dir()
    ]


def consensus_label(
    raters: UInt8[np.ndarray, "rater field *space"], share: float
) -> UInt8[np.ndarray, "field *space"] | None:
    """Pixels that at least this share of the raters mark; None for a share of 0."""
    if share == 0:
        return None
    # A third of three raters is one, whatever floating point makes of it.
    return np.asarray(raters.mean(axis=0) >= share - 1e-9, dtype=np.uint8)


def middle_slices(dataset: Dataset) -> Dataset:
    """One case per nodule: its middle slice, chosen without a look at the masks."""
    places: dict[str, list[int]] = {}
    for place, case in enumerate(dataset):
        places.setdefault(case.volume, []).append(place)
    return dataset.take([of_nodule[len(of_nodule) // 2] for of_nodule in places.values()])


def _pixel_mm(notes: Mapping[int, _Note]) -> float | None:
    return next((note.pixel_mm for note in notes.values() if note.pixel_mm is not None), None)


def _source(nodule: Path, notes: Mapping[int, _Note]) -> Source:
    images = _slices(nodule / "images")
    names = [path.name for path in images]
    labels: list[Path] = []
    for folder in entries(nodule):
        if not folder.name.startswith("mask-"):
            continue
        masks = _slices(folder)
        if [path.name for path in masks] != names:
            raise SegprefError(
                f"{folder} does not hold one mask per slice of {nodule / 'images'}: restore the "
                "missing ones or remove the others"
            )
        labels += masks
    patient = nodule.parent.name
    return Source(
        id=source_id(f"{patient}_{nodule.name}"),
        patient=patient,
        images=tuple(images),
        labels=tuple(labels),
        text="\n".join(notes[number].prompt for number in sorted(notes)) or None,
        # All that :meth:`LIDC.read` takes from the table, which is none of the nodule's own files.
        key=f"pixel {_pixel_mm(notes)} mm, described {sorted(notes)}",
    )


def _slices(folder: Path) -> list[Path]:
    required(folder, "holds the slices of a nodule", "restore it or remove the nodule")
    files = [path for path in entries(folder) if is_picture(path)]
    if not files:
        raise SegprefError(f"{folder} holds no picture: restore its slices or remove the nodule")
    try:
        return sorted(files, key=lambda path: int(path.stem.removeprefix("slice-")))
    except ValueError as error:
        raise SegprefError(
            f"{folder} holds pictures that are not named slice-0.png, slice-1.png, ...: rename them"
        ) from error


def _read_notes(table: Path) -> dict[tuple[str, str], dict[int, _Note]]:
    notes: dict[tuple[str, str], dict[int, _Note]] = {}
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                ratings = {name: int(row[name]) for name in CHARACTERISTICS}
                spacing = float(row.get("pixel_spacing_mm") or np.nan)
                marks = (row.get("n_inexact_slices") or "0", row.get("mixed_scans") or "0")
                notes.setdefault((row["patient"], row["nodule"]), {})[int(row["mask_index"])] = (
                    _Note(
                        prompt=nodule_prompt(ratings),
                        pixel_mm=None if np.isnan(spacing) else spacing,
                        imperfect=any(int(mark) > 0 for mark in marks),
                    )
                )
    except (OSError, ValueError, KeyError, TypeError, csv.Error, SegprefError) as error:
        raise SegprefError(
            f"{table} can't be read as the list of the nodules' characteristics ({error}): restore it "
            "or remove it"
        ) from error
    return notes


def _picture(path: Path) -> Float[np.ndarray, "1 row column"]:
    return np.asarray(read_volume(path, "grey").array)


def _mask(path: Path, shape: Sequence[int]) -> UInt8[np.ndarray, "row column"]:
    image = VolumeFile(np.zeros((1, *shape), np.uint8), None, None)
    return read_binary(path, image, path.parent.parent / "images" / path.name)


def _stack(planes: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {plane.shape for plane in planes}
    if len(shapes) != 1:
        raise SegprefError(
            f"the slices of one nodule have different sizes ({sorted(shapes)}): export them again"
        )
    return np.stack(planes, axis=-1)
