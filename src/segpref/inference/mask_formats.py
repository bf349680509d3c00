"""Formats that masks of new images are written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from jaxtyping import UInt8

from segpref.data.cache import write_atomically
from segpref.data.dicom_headers import read_header
from segpref.data.dicom_images import series_of
from segpref.data.dicom_series import Series
from segpref.data.masks import mask_paths
from segpref.data.series_rule import ANY_SERIES, SeriesRule
from segpref.data.source import Reader, Source
from segpref.data.volumes import is_nifti
from segpref.extras import needed
from segpref.inference.dicom_seg import segmentation, segments_in
from segpref.inference.mask_places import mask_name
from segpref.inference.mask_writing import Geometry, kept_header, write_mask
from segpref.inference.segment_table import Segment, print_segments, segments_of
from segpref.inference.slicer_nrrd import SlicerNrrd
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["AS_IMAGES", "DicomSeg", "FormatName", "MaskFormat", "like", "mask_format"]

FormatName = Literal["image", "dicom-seg", "seg.nrrd"]


class MaskFormat(Protocol):
    """How the masks of an image are named and written."""

    def check(self, reader: Reader) -> None:
        """Refuse images that can't have such masks, before any is read."""
        ...

    def name(self, source: Source) -> str:
        """What the mask of an image is called."""
        ...

    def files(self, path: Path, space: LabelSpace) -> Sequence[Path]:
        """The files of a mask of this name."""
        ...

    def write(
        self,
        path: Path,
        mask: UInt8[np.ndarray, "field *space"],
        space: LabelSpace,
        source: Source,
        case: Case,
    ) -> Sequence[Path]:
        """Write the mask of an image that was read, atomically; returns the files."""
        ...


@dataclass(frozen=True)
class AsImages:
    """NIfTI for volumes, and pictures for pictures; see :func:`write_mask`."""

    def check(self, reader: Reader) -> None:
        """All images can have them."""

    def name(self, source: Source) -> str:
        """As its image is, by :func:`mask_name`."""
        return mask_name(source)

    def files(self, path: Path, space: LabelSpace) -> Sequence[Path]:
        """One file, or one per structure that may overlap."""
        return mask_paths(path, space)

    def write(
        self,
        path: Path,
        mask: UInt8[np.ndarray, "field *space"],
        space: LabelSpace,
        source: Source,
        case: Case,
    ) -> Sequence[Path]:
        """Write it with the geometry of the image; of NIfTI the header goes over as it is."""
        return write_mask(path, mask, space, like(source, case))


AS_IMAGES = AsImages()


@dataclass(frozen=True)
class DicomSeg:
    """One DICOM-SEG file per image of a DICOM series, ``ID.dcm``; see :func:`segmentation`.

    Args:
        segments: the structures in codes, one per segment.
        model: name of the model.
        series: which series of a folder that a table names is its image.
    """

    segments: tuple[Segment, ...]
    model: str
    series: SeriesRule = ANY_SERIES

    def check(self, reader: Reader) -> None:
        """Refuse images that are no DICOM series, or of a series that lacks what a mask refers to.

        What can't be read is left to its reading, which says why.
        """
        needed("highdicom", "dicom")
        for source in reader.sources():
            if len(source.images) > 1:
                raise _no_series(source)
            try:
                series = series_of(source, self.series)
                flat = series is not None and not series.placed
                header = None if series is None else read_header(series.files[0])
            except SegprefError:
                continue
            if series is None or header is None:
                raise _no_series(source)
            stated = {
                "StudyInstanceUID": series.study,
                "SeriesInstanceUID": series.uid,
                "SOPInstanceUID": all(series.instances),
                "SOPClassUID": series.sop_class,
                "FrameOfReferenceUID": flat or series.frame_of_reference,
                "PixelSpacing": flat or not header.planes or header.planes[0].spacing,
            }
            if missing := [name for name, value in stated.items() if not value]:
                raise SegprefError(
                    f"{series.files[0]} states no {' and no '.join(missing)}, which a DICOM-SEG refers "
                    "to: export the series again, or write masks with --format image"
                )

    def name(self, source: Source) -> str:
        """Its id."""
        return f"{source.id}.dcm"

    def files(self, path: Path, space: LabelSpace) -> Sequence[Path]:
        """One file for all structures, even where they overlap."""
        return (path,)

    def write(
        self,
        path: Path,
        mask: UInt8[np.ndarray, "field *space"],
        space: LabelSpace,
        source: Source,
        case: Case,
    ) -> Sequence[Path]:
        """Write one file that refers to the image's series."""
        series = self._series(source)
        write_atomically(path, segmentation(mask, space, self.segments, series, self.model))
        return (path,)

    def _series(self, source: Source) -> Series:
        series = series_of(source, self.series)
        if series is None:
            raise _no_series(source)
        return series


def mask_format(
    name: FormatName,
    space: LabelSpace,
    output: Path,
    table: Path | None = None,
    model: str = "",
    series: SeriesRule = ANY_SERIES,
) -> MaskFormat:
    """The format of this name.

    Args:
        name: ``image``, ``dicom-seg`` or ``seg.nrrd``.
        space: of the model.
        output: folder of the masks, in which a template for missing codes is written.
        table: CSV file of codes; see :func:`segments_of`.
        model: its name.
        series: which series of a folder is its image.

    Raises:
        SegprefError: a structure without codes, a table that is no good, or one that is not used.
    """
    if name not in get_args(FormatName):
        allowed = ", ".join(get_args(FormatName))
        raise SegprefError(
            f"the format of masks is one of {allowed}, not {name!r}: correct --format"
        )
    if name != "dicom-seg" and table is not None:
        raise SegprefError("--segments says how DICOM-SEG is coded: add --format dicom-seg")
    if name != "dicom-seg":
        return AS_IMAGES if name == "image" else SlicerNrrd()
    segments = segments_of(segments_in(space), table, output / "segments.csv")
    print_segments(segments)
    return DicomSeg(segments, model, series)


def like(source: Source, case: Case) -> Geometry | Case:
    """What tells the geometry: a NIfTI header goes over as it is, of other formats the case knows."""
    return kept_header(source.images[0], case) if is_nifti(source.images[0]) else case


def _no_series(source: Source) -> SegprefError:
    return SegprefError(
        f"{source.images[0]} is no DICOM series, to which a DICOM-SEG could refer: leave it out, or "
        "write masks with --format image"
    )
