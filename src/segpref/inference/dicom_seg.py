"""Masks of DICOM series as DICOM-SEG, by highdicom: what archives keep and viewers lay over images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from segpref.data.dicom import ordered_slices
from segpref.data.dicom_file import read_dicom
from segpref.data.dicom_order import Slice
from segpref.data.dicom_series import Series
from segpref.extras import needed
from segpref.inference.segment_table import Code, Segment
from segpref.late import late
from segpref.types import LabelSpace, SegprefError
from segpref.version import __version__

__all__ = ["segmentation", "segments_in"]

pydicom = late("pydicom")

_SERIES_NUMBER = 300
"""Out of the way of a scanner's own series, which count from 1."""

_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""What every file has to state, if only by an empty value; anonymisers drop it."""

_SIDES = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
    "both": Code("51440002", "SCT", "Right and left"),
}


def segments_in(space: LabelSpace) -> tuple[str, ...]:
    """The structures that become segments: the classes but for the background, or the structures."""
    return space.names[1:] if space.kind == "multi-class" else space.names


def segmentation(
    mask: UInt8[np.ndarray, "field *space"],
    space: LabelSpace,
    segments: Sequence[Segment],
    series: Series,
    model: str,
) -> bytes:
    """The mask of a DICOM series as the content of a DICOM-SEG file.

    Every frame lies where its source slice does and refers to it; frames without a voxel of their
    segment are left out. Of a mask that is empty altogether there is one empty frame per segment, of
    the first slice, because a file has to have some: structures are described, and nothing is marked.
    Patient and study are those of the source, as highdicom copies them; the series is a new one.
    There are no tracking identifiers: a model does not know which lesion of an earlier study this is.

    Args:
        mask: ``[field, x, y, z]`` on the grid of the series; of a radiograph ``[field, row, column]``.
        space: what its values mean.
        segments: of :func:`segments_in`.
        series: whose mask it is.
        model: name of the model.

    Raises:
        SegprefError: a source that highdicom can't describe.
    """
    highdicom = needed("highdicom", "dicom")
    slices = ordered_slices(series.files, series.folder)
    planes = _planes(mask, space)
    if planes.shape[:3] != (len(slices), slices[0][0].rows, slices[0][0].columns):
        raise SegprefError(
            f"{series.folder} has changed since its mask was made: run segpref predict again"
        )
    sources, frames = _sources(slices)
    planes = planes[np.argsort(frames)]
    places: dict[str, Any] = {}
    if not planes.any():
        places["omit_empty_frames"] = False
    if not planes.any() and len(planes) > 1:
        planes = planes[:1]
        position = slices[frames.index(0)][1].position
        places["plane_positions"] = [highdicom.PlanePositionSequence("PATIENT", position)]
    described = [_described(highdicom, n, one, model) for n, one in enumerate(segments, start=1)]
    ours = "".join([model, *(text for one in segments for text in _texts(one))])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of values in the source that are not quite as they should be
            made = highdicom.seg.Segmentation(
                source_images=sources,
                pixel_array=planes,
                segmentation_type="BINARY",
                segment_descriptions=described,
                series_instance_uid=pydicom.uid.generate_uid(prefix=None),
                series_number=_SERIES_NUMBER,
                sop_instance_uid=pydicom.uid.generate_uid(prefix=None),
                instance_number=1,
                manufacturer="segpref",
                manufacturer_model_name=model,
                software_versions=__version__,
                device_serial_number="none",
                content_label="SEGMENTATION",
                content_description=_short(f"Masks of {model}"),
                series_description=_short(
                    f"segpref: {', '.join(one.structure for one in segments)}"
                ),
                specific_character_set=_characters(highdicom, sources[0], ours),
                **places,
            )
            file = BytesIO()
            made.save_as(file)
    except Exception as error:  # highdicom and pydicom raise whatever a stranger's header causes
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise SegprefError(
            f"{series.folder} can't be the source of a DICOM-SEG ({reason[:200]}): export the series "
            "again, or write its mask with --format image"
        ) from error
    return file.getvalue()


def _planes(
    mask: UInt8[np.ndarray, "field *space"], space: LabelSpace
) -> Integer[np.ndarray, "slice row column *segment"]:
    """Slices as highdicom takes them: a label map of exclusive classes, else a mask per segment."""
    if mask.ndim == 3:
        mask = mask.swapaxes(1, 2)[..., None]
    planes = mask.transpose(0, 3, 2, 1)
    if space.kind == "multi-class":
        return np.ascontiguousarray(planes[0])
    return np.ascontiguousarray(np.moveaxis(planes == 1, 0, -1)).view(np.uint8)


def _sources(slices: Sequence[Slice]) -> tuple[list[Any], list[int]]:
    """Headers of the source files, and which frame of them each slice is."""
    files = list(dict.fromkeys(header.path for header, _ in slices))
    if len(files) not in (1, len(slices)):
        raise SegprefError(
            f"{files[0].parent} holds a series of {len(files)} multi-frame files, where a DICOM-SEG "
            "can refer to one: export each as a series of its own, or write masks with --format image"
        )
    sources = [read_dicom(file, stop_before_pixels=True) for file in files]
    first, plane = sources[0], slices[0][1]
    for source in sources:
        for name in _EMPTY:
            if name not in source:
                setattr(source, name, "")
        if len(files) > 1 and plane.orientation is not None:
            # They differ in their last digits at most, which highdicom would refuse.
            source.ImageOrientationPatient = first.ImageOrientationPatient
        if plane.position is not None and "SharedFunctionalGroupsSequence" not in source:
            source.SliceThickness = plane.thickness or _step(slices)
    if len(files) == len(slices):
        return sources, list(range(len(slices)))
    return sources, [plane.frame for _, plane in slices]


def _step(slices: Sequence[Slice]) -> float:
    """Distance of the first two slices in mm; 1 of a single one, as where it is read."""
    if len(slices) == 1:
        return 1.0
    one, other = (np.array(plane.position) for _, plane in slices[:2])
    return round(float(np.linalg.norm(other - one)), 6)


def _described(highdicom: Any, number: int, segment: Segment, model: str) -> Any:
    code = highdicom.sr.CodedConcept
    family = code("123110", "DCM", "Artificial Intelligence")
    made = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.structure,
        segmented_property_category=code(*_parts(segment.category)),
        segmented_property_type=code(*_parts(segment.type)),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=model, family=family, version=__version__, source="segpref"
        ),
        display_color=None
        if segment.colour is None
        else highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.side:
        kind = made.SegmentedPropertyTypeCodeSequence[0]
        side = code(*_parts(_SIDES[segment.side]))
        kind.SegmentedPropertyTypeModifierCodeSequence = [side]
    return made


def _parts(code: Code) -> tuple[str, str, str]:
    return code.value, code.scheme, code.meaning


def _texts(segment: Segment) -> tuple[str, ...]:
    return segment.structure, segment.category.meaning, segment.type.meaning


def _characters(highdicom: Any, source: Any, ours: str) -> str | None:
    """The source's characters, but Unicode where they lack those of our texts, or are several sets."""
    given = source.get("SpecificCharacterSet") or None
    known = {one.value for one in highdicom.enum.SpecificCharacterSetValues}
    same = given is None or (isinstance(given, str) and given in known)
    return given if same and ours.isascii() else "ISO_IR 192"


def _short(text: str) -> str:
    """As DICOM has room for."""
    return text if len(text) <= 64 else text[:61] + "..."
