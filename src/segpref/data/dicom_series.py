"""The DICOM series below a folder, whatever folders and names their files have."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from segpref.data.dicom_headers import Header, identified, read_header
from segpref.data.dicom_marks import is_dicom
from segpref.data.walk import Tree
from segpref.progress import track
from segpref.types import SegprefError

__all__ = ["LeftOut", "Orientation", "Series", "found_series", "series_of_files"]

Orientation = Literal["axial", "coronal", "sagittal"]

_AXES: tuple[Orientation, ...] = ("sagittal", "coronal", "axial")
"""By the axis of the patient that slices are stacked along: left to right, front to back, upwards."""

_MANY = 1000
"""Files from which on it takes so long to look at them that a bar shows how far it is."""

_OBLIQUE = 0.5
"""How far a direction may be from that of the first slice: more is another orientation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One DICOM series: what its headers said when they were read; texts are empty where they did not.

    Args:
        uid: ``SeriesInstanceUID``.
        study: ``StudyInstanceUID``.
        patient: ``PatientID``.
        date: ``StudyDate``, eight digits.
        modality: such as CT.
        description: ``SeriesDescription``.
        number: ``SeriesNumber``.
        frame_of_reference: ``FrameOfReferenceUID``.
        sop_class: ``SOPClassUID`` of its files.
        files: slices by position, as along the third axis of what is read; else by name. Files that
            can't be read come last.
        instances: ``SOPInstanceUID`` of each file, empty where it could not be read.
        slices: how many there are; frames of a file count.
        orientation: along which axis of the patient they are stacked, as nearly as one can say; None
            where they state no position, or several orientations.
        placed: whether any of them states its position in space.
        secondary: whether it is a secondary capture: a picture of a screen, or a converted one.
    """

    uid: str
    study: str
    patient: str
    date: str
    modality: str
    description: str
    number: str
    frame_of_reference: str
    sop_class: str
    files: tuple[Path, ...]
    instances: tuple[str, ...]
    slices: int
    orientation: Orientation | None
    placed: bool
    secondary: bool

    @property
    def folder(self) -> Path:
        """The folder that all its files lie in or below."""
        return Path(os.path.commonpath([file.parent for file in self.files]))

    @property
    def study_key(self) -> str:
        """What distinguishes its study: its folder where the files don't say."""
        return self.study or f"folder {self.folder}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files that are no image to read, and why.

    Args:
        files: of one series and one kind.
        why: such as ``a localizer``.
        series: what they are of.
    """

    files: tuple[Path, ...]
    why: str
    series: Series


def found_series(root: Path) -> tuple[list[Series], list[LeftOut]]:
    """Read the headers of all DICOM files in or below a folder.

    Files belong together by ``SeriesInstanceUID``, and by their folder, too, where they state no series
    or no study. A file that can't be read belongs to every series of its folder, whose reading reports
    it, or is alone. Copies of a file (of one ``SOPInstanceUID`` and the same content) count once.
    Reports, presentation states, structure sets, segmentations, doses and localizers are left out.
    """
    damaged: list[Path] = []
    images: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    others: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    seen: dict[str, Path] = {}
    files = Tree(root).files
    shown = track(files, "reading DICOM headers", len(files)) if len(files) > _MANY else files
    for file in shown:
        if not is_dicom(file):
            continue
        try:
            header = identified(file)
        except SegprefError:
            damaged.append(file)
            continue
        known = header.study and header.series
        group = (header.study, header.series, "" if known else str(file.parent))
        if why := _no_image(header):
            others[(*group, why)].append(header)
        elif _is_copy(header, seen):
            others[(*group, f"a copy of {seen[header.sop_instance].name}")].append(header)
        else:
            # A screenshot may be filed under the series that it shows.
            images[(*group, header.sop_class)].append(header)
    series = [_series(headers, damaged) for headers in images.values()]
    taken = {file for one in series for file in one.files}
    series += [_unread(file) for file in damaged if file not in taken]
    left = [
        LeftOut(tuple(one.path for one in headers), group[-1], _series(headers, ()))
        for group, headers in others.items()
    ]
    return series, left


def series_of_files(files: Sequence[Path]) -> Series:
    """The series that these files are, as :func:`found_series` gives it.

    Raises:
        SegprefError: one of them can't be read.
    """
    return _series([read_header(file) for file in files], ())


def _no_image(header: Header) -> str:
    if not header.is_image:
        return f"no image ({header.kind or 'no pixels'})"
    if {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"} & set(header.image_type):
        return "a localizer"
    return ""


def _is_copy(header: Header, seen: dict[str, Path]) -> bool:
    if not header.sop_instance:
        return False
    first = seen.setdefault(header.sop_instance, header.path)
    return first != header.path and filecmp.cmp(first, header.path, shallow=False)


def _series(headers: Iterable[Header], damaged: Iterable[Path]) -> Series:
    ordered = sorted(headers, key=_height)
    first = ordered[0]
    folders = {header.path.parent for header in ordered}
    unread = [file for file in damaged if file.parent in folders]
    planes = [plane for header in ordered for plane in header.planes]
    return Series(
        uid=first.series,
        study=first.study,
        patient=first.patient,
        date=first.date,
        modality=first.modality,
        description=first.description,
        number=first.number,
        frame_of_reference=first.frame_of_reference,
        sop_class=first.sop_class,
        files=(*(header.path for header in ordered), *unread),
        instances=(*(header.sop_instance for header in ordered), *("" for _ in unread)),
        slices=sum(max(header.frames, len(header.planes)) for header in ordered) + len(unread),
        orientation=_orientation([plane.orientation for plane in planes]),
        placed=any(plane.position is not None for plane in planes)
        or any(header.wrong for header in ordered),
        secondary="Secondary Capture" in first.kind,
    )


def _height(header: Header) -> tuple[float, Path]:
    plane = header.planes[0] if header.planes else None
    if plane is None or plane.position is None or plane.orientation is None:
        return np.inf, header.path
    row, column = np.array(plane.orientation).reshape(2, 3)
    return float(np.cross(row, column) @ np.array(plane.position)), header.path


def _orientation(found: Sequence[tuple[float, ...] | None]) -> Orientation | None:
    stated = np.array([one for one in found if one is not None])
    if not len(stated):
        return None
    normals = np.cross(stated[:, :3], stated[:, 3:])
    if np.abs(normals - normals[0]).max() > _OBLIQUE:
        return None
    return _AXES[int(np.abs(normals[0]).argmax())]


def _unread(file: Path) -> Series:
    texts = ("uid", "study", "patient", "date", "modality", "description", "number")
    return Series(
        **dict.fromkeys(texts, ""),
        frame_of_reference="",
        sop_class="",
        files=(file,),
        instances=("",),
        slices=1,
        orientation=None,
        placed=False,
        secondary=False,
    )
