"""What the header of a DICOM file says, as plain values: what is empty is unknown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any

from segpref.data.dicom_file import read_dicom
from segpref.data.dicom_values import number_of, numbers_of, shown, text_of
from segpref.disk import refuse_scarcity
from segpref.late import late
from segpref.targets import refuse_special
from segpref.types import SegprefError

__all__ = ["Header", "Plane", "identified", "read_header"]

pydicom = late("pydicom")

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "StudyDate", "PatientID",
    "Modality", "SeriesDescription", "SeriesNumber", "InstanceNumber", "ImageType",
    "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsStored",
    "PixelRepresentation", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient",
    "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]  # fmt: skip

_ELSEWHERE = {
    "ImagerPixelSpacing": "at the detector, not in the patient",
    "NominalScannedPixelSpacing": "on the film, not in the patient",
}
"""Pixel sizes that are no sizes in the patient, and where they were measured."""

_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
)


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice: a file, or one frame of it.

    Args:
        frame: which of the file's frames it is, from 0.
        position: ``ImagePositionPatient``, in mm, LPS.
        orientation: ``ImageOrientationPatient``: the directions of a row and of a column.
        spacing: mm between rows and between columns, in the patient.
        elsewhere: the same as measured elsewhere, and where: at the detector, or on the film.
        thickness: of the slice, or else the distance of slices that the file states, in mm.
        slope: what stored values are multiplied by; None where the file does not say.
        intercept: what is added then.
    """

    frame: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    elsewhere: tuple[tuple[float, ...], str] | None
    thickness: float | None
    slope: float | None
    intercept: float | None


@dataclass(frozen=True, slots=True)
class Header:
    """A file that can hold an image; texts are empty where the file does not say.

    Args:
        path: the file.
        sop_class: UID of the kind of file.
        kind: its name, or the UID itself where that is not known.
        sop_instance: UID of the file.
        series: ``SeriesInstanceUID``.
        study: ``StudyInstanceUID``.
        patient: ``PatientID``.
        date: ``StudyDate``, eight digits.
        modality: such as CT.
        description: ``SeriesDescription``.
        number: ``SeriesNumber``.
        instance: ``InstanceNumber``.
        image_type: ``ImageType``, in capitals.
        frame_of_reference: its UID.
        rows: 0 where there are no pixels, such as in a report.
        columns: likewise.
        frames: 1 where the file has no more.
        samples: 3 in colour.
        bits: stored per value.
        signed: whether stored values are.
        dark_is_high: MONOCHROME1.
        planes: one per frame where the file says where each lies, else one; none where there are no
            pixels, or where ``wrong`` is not empty.
        wrong: a sentence about what the header states and can't be, which reading the file is refused
            with; empty where all is well.
    """

    path: Path
    sop_class: str
    kind: str
    sop_instance: str
    series: str
    study: str
    patient: str
    date: str
    modality: str
    description: str
    number: str
    instance: float | None
    image_type: tuple[str, ...]
    frame_of_reference: str
    rows: int
    columns: int
    frames: int
    samples: int
    bits: int
    signed: bool
    dark_is_high: bool
    planes: tuple[Plane, ...]
    wrong: str = ""

    @property
    def is_image(self) -> bool:
        """Whether the kind of file is one of images, or not known and there are pixels."""
        return "Image Storage" in self.kind or (self.kind == self.sop_class and self.rows > 0)


def read_header(path: Path) -> Header:
    """Read what is known of a file; its pixels are not read.

    Raises:
        SegprefError: it can't be read, is no DICOM file, is cut off, or states something that can't be.
    """
    header = identified(path)
    if header.wrong:
        raise SegprefError(header.wrong)
    return header


def identified(path: Path) -> Header:
    """The same, but what can't be is only noted in ``wrong``: what the file belongs to is known.

    Raises:
        SegprefError: it can't be read, is no DICOM file, or is cut off.
    """
    refuse_special(path)
    try:
        data = read_dicom(path, stop_before_pixels=True, specific_tags=_TAGS)
        if not data.get("SOPClassUID") and not data.get("Rows"):
            raise ValueError("neither a kind nor a size")
        return _header(path, data)
    except SegprefError:
        raise
    except OSError as error:
        refuse_scarcity(path, error)
        raise SegprefError(
            f"{path} can't be read ({error.strerror}): restore it, or ask for the permission to read it"
        ) from error
    except Exception as error:  # pydicom raises whatever a damaged file makes it stumble over
        raise SegprefError(f"{path} is cut off or no valid DICOM file: export it again") from error


def _header(path: Path, data: Any) -> Header:
    kind_uid = text_of(data, "SOPClassUID") or str(
        data.file_meta.get("MediaStorageSOPClassUID", "") or ""
    )
    kind = str(pydicom.uid.UID(kind_uid).name) if kind_uid else ""
    wrong = ""

    def whole(tag: str, otherwise: int) -> int:
        nonlocal wrong
        try:
            return int(number_of(path, data, tag) or otherwise)
        except SegprefError as error:
            wrong = wrong or str(error)
            return otherwise

    rows, columns = whole("Rows", 0), whole("Columns", 0)
    planes: tuple[Plane, ...] = ()
    try:
        planes = tuple(_planes(path, data)) if rows else ()
    except SegprefError as error:
        wrong = wrong or str(error)
    if "Image Storage" in kind and not (rows and columns) and not wrong:
        raise SegprefError(f"{path} is cut off, it does not say its size: export it again")
    return Header(
        path=path,
        sop_class=intern(kind_uid),
        kind=intern(kind),
        sop_instance=text_of(data, "SOPInstanceUID"),
        series=intern(text_of(data, "SeriesInstanceUID")),
        study=intern(text_of(data, "StudyInstanceUID")),
        patient=intern(" ".join(text_of(data, "PatientID").split())),
        date=intern(re.sub(r"\D", "", text_of(data, "StudyDate"))[:8]),
        modality=intern(text_of(data, "Modality").upper()),
        description=intern(" ".join(text_of(data, "SeriesDescription").split())),
        number=intern(text_of(data, "SeriesNumber")),
        instance=_whole(text_of(data, "InstanceNumber")),
        image_type=tuple(map(intern, text_of(data, "ImageType").upper().split("\\"))),
        frame_of_reference=intern(text_of(data, "FrameOfReferenceUID")),
        rows=rows,
        columns=columns,
        frames=whole("NumberOfFrames", 1),
        samples=whole("SamplesPerPixel", 1),
        bits=whole("BitsStored", 16),
        signed=bool(whole("PixelRepresentation", 0)),
        dark_is_high=text_of(data, "PhotometricInterpretation") == "MONOCHROME1",
        planes=planes,
        wrong=wrong,
    )


def _planes(path: Path, data: Any) -> Iterator[Plane]:
    """The file as one slice, or its frames as the functional groups of an enhanced file place them."""
    frames = data.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        yield _plane(path, 0, [data])
        return
    shared = data.get("SharedFunctionalGroupsSequence") or []
    common = _within(shared[0]) if len(shared) else []
    for number, frame in enumerate(frames):
        yield _plane(path, number, [*_within(frame), *common, data])


def _within(groups: Any) -> list[Any]:
    found = [groups.get(name) for name in _GROUPS]
    return [one[0] for one in found if one]


def _plane(path: Path, frame: int, places: list[Any]) -> Plane:
    """A slice whose values stand in the first place that has them."""

    def numbers(tag: str, count: int) -> tuple[float, ...] | None:
        for place in places:
            values = numbers_of(path, place, tag)
            if values is None:
                continue
            if len(values) != count:
                raise SegprefError(
                    f"{path} states {len(values)} values of {tag} ({shown(values)}) where {count} are "
                    "due: export it again"
                )
            return values
        return None

    def number(tag: str) -> float | None:
        found = (number_of(path, place, tag) for place in places)
        return next((value for value in found if value is not None), None)

    def size(tag: str) -> tuple[float, ...] | None:
        values = numbers(tag, 2)
        return values if values is not None and min(values) > 0 else None

    slope = number("RescaleSlope")
    if slope == 0:
        raise SegprefError(
            f"{path} states a RescaleSlope of 0, which leaves nothing of its values: export it again"
        )
    others = ((size(tag), where) for tag, where in _ELSEWHERE.items())
    return Plane(
        frame=frame,
        position=numbers("ImagePositionPatient", 3),
        orientation=numbers("ImageOrientationPatient", 6),
        spacing=size("PixelSpacing"),
        elsewhere=next(((found, where) for found, where in others if found is not None), None),
        thickness=number("SliceThickness") or number("SpacingBetweenSlices"),
        slope=slope,
        intercept=number("RescaleIntercept"),
    )


def _whole(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
