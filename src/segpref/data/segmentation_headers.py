"""What the header of a DICOM-SEG file says: its segments, and where each frame lies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpref.data.dicom_file import read_dicom
from segpref.data.dicom_headers import Header, Plane, identified, read_header
from segpref.data.dicom_marks import is_dicom
from segpref.data.dicom_values import text_of
from segpref.data.walk import entries
from segpref.disk import refuse_scarcity
from segpref.late import late
from segpref.types import SegprefError

__all__ = [
    "SegmentFrame",
    "Segmentation",
    "is_segmentation",
    "read_segmentation",
    "segmentations_in",
]

pydicom = late("pydicom")

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
"""SOPClassUID of a DICOM-SEG."""

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SegmentationType", "SegmentsOverlap", "SegmentSequence",
    "BitsAllocated", "ReferencedSeriesSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """One frame.

    Args:
        label: of its segment.
        plane: where it lies, as far as it says.
        sources: SOPInstanceUIDs of the images that it was made from; none where it does not say.
    """

    label: str
    plane: Plane
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A binary DICOM-SEG file.

    Args:
        header: what it has in common with images.
        labels: of its segments, in the order of their numbers.
        overlap: whether it says that segments overlap: True, False, or None where it does not say.
        series: SeriesInstanceUIDs that it refers to.
        frames: in the order of its pixels; a segment may have none.
    """

    header: Header
    labels: tuple[str, ...]
    overlap: bool | None
    series: tuple[str, ...]
    frames: tuple[SegmentFrame, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return self.header.path


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM-SEG; one that can't be read is none."""
    try:
        return is_dicom(path) and identified(path).sop_class == _SEGMENTATION
    except SegprefError:  # of an image: the error about it is due when it is read
        return False


def segmentations_in(folder: Path) -> list[Path]:
    """The DICOM-SEG files ``NAME.dcm`` that lie directly in a folder."""
    return [path for path in entries(folder) if path.suffix == ".dcm" and is_segmentation(path)]


def read_segmentation(path: Path) -> Segmentation:
    """Read what a file says; its pixels are not read.

    Raises:
        SegprefError: it can't be read, is no DICOM-SEG or a fractional one, two segments have one
            label, or frames are of segments that it does not describe.
    """
    header = read_header(path)
    if header.sop_class != _SEGMENTATION:
        raise SegprefError(
            f"{path} is no DICOM-SEG ({header.kind}): export its segments as DICOM-SEG"
        )
    try:
        data = read_dicom(path, stop_before_pixels=True, specific_tags=_TAGS)
        return _segmentation(path, header, data)
    except SegprefError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged file makes it stumble over
        refuse_scarcity(path, error)
        raise SegprefError(f"{path} is cut off or no valid DICOM-SEG: export it again") from error


def _segmentation(path: Path, header: Header, data: Any) -> Segmentation:
    kind = text_of(data, "SegmentationType").upper()
    if kind != "BINARY" or data.get("BitsAllocated") != 1:
        raise SegprefError(
            f"{path} is a {kind.lower() or 'nameless'} segmentation, whose values are no masks: export "
            "it as a binary one, cut where you decide"
        )
    numbered = {int(one.SegmentNumber): _label(one) for one in data.SegmentSequence}
    labels = tuple(numbered[number] for number in sorted(numbered))
    if len(numbered) < len(data.SegmentSequence) or "" in labels or len(set(labels)) < len(labels):
        counts = Counter(labels)
        same = [label or "no label" for label in counts if counts[label] > 1 or not label]
        raise SegprefError(
            f"{path} has segments that can't be told apart ({', '.join(same) or 'one number'}; they "
            f"are {', '.join(labels)}): give each a SegmentLabel of its own"
        )
    groups = data.get("PerFrameFunctionalGroupsSequence") or []
    if not len(groups) == header.frames == len(header.planes):
        raise SegprefError(
            f"{path} says of {len(groups)} of its {header.frames} frames where they lie: export "
            "it again"
        )
    shared = data.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    frames = []
    for own, plane in zip(groups, header.planes, strict=True):
        number = _segment_number(own) or _segment_number(shared[0])
        if number not in numbered:
            raise SegprefError(
                f"{path} has a frame of segment {number}, which it does not describe: export it again"
            )
        frames.append(SegmentFrame(numbered[number], plane, _sources(own) or _sources(shared[0])))
    overlap = {"YES": True, "NO": False}.get(text_of(data, "SegmentsOverlap").upper())
    series = data.get("ReferencedSeriesSequence") or []
    uids = tuple(dict.fromkeys(text_of(one, "SeriesInstanceUID") for one in series))
    return Segmentation(header, labels, overlap, uids, tuple(frames))


def _label(segment: Any) -> str:
    return " ".join(text_of(segment, "SegmentLabel").split())


def _segment_number(group: Any) -> int | None:
    found = group.get("SegmentIdentificationSequence")
    return int(found[0].ReferencedSegmentNumber) if found else None


def _sources(group: Any) -> tuple[str, ...]:
    images = [
        image
        for derivation in group.get("DerivationImageSequence") or []
        for image in derivation.get("SourceImageSequence") or []
    ]
    return tuple(text_of(one, "ReferencedSOPInstanceUID") for one in images)
