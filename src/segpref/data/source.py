"""The interface of readers: a light index of sources, and one case per source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from segpref.data.dicom_series import Series
from segpref.data.names import check_id, check_patient
from segpref.types import Case, LabelSpace

__all__ = ["Reader", "Source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files of one volume (or one 2D image), before anything is read.

    Args:
        id: unique in its dataset, made of letters, digits, ``.``, ``_`` and ``-``; files are named
            after it (:func:`~segpref.data.names.check_id`).
        patient: who it is of; a text in one line.
        images: one file per channel, or the one folder of a DICOM series, which may hold others.
        labels: the files that its label is made of; empty where there is none.
        stratum: what splits are balanced by, or None.
        text: what :attr:`~segpref.types.Case.text` will be, if the index has it.
        key: what decides besides the content of its files and the reader's settings what is read of
            them: which nodule of a scan it is, or what a table says of it. None where nothing does.
        series: the DICOM series that its image is, with its files and UIDs, where it was found in a
            folder; see :func:`~segpref.data.dicom_images.series_of` for the others.

    Raises:
        SegprefError: an id or a patient that is none.
    """

    id: str
    patient: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...] = ()
    stratum: str | None = None
    text: str | None = None
    key: str | None = None
    series: Series | None = None

    def __post_init__(self) -> None:
        # Here, so that no reader can leave it out: ids and patients often come from files.
        place = self.images[0] if self.images else "an image"
        check_id(self.id, place)
        check_patient(self.patient, place)

    @property
    def parts(self) -> tuple[Path | Series, ...]:
        """What :func:`~segpref.data.volumes.read_volume` reads of it: the series, or each file."""
        return self.images if self.series is None else (self.series,)

    @property
    def content(self) -> list[Path]:
        """The files and folders that its content is in, labels included."""
        if self.series is not None:
            return [*sorted(self.series.files), *self.labels]
        return [*self.images, *self.labels]


@runtime_checkable
class Reader(Protocol):
    """A dataset on disk. Making one reads the index only and checks that every file is there."""

    @property
    def label_space(self) -> LabelSpace | None:
        """What its labels mean; None where there are none."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels."""
        ...

    @property
    def patients_known(self) -> bool:
        """False where nothing links volumes to patients, so that each volume counts as one."""
        ...

    def sources(self) -> Sequence[Source]:
        """All sources, sorted by id."""
        ...

    def read(self, source: Source) -> Case:
        """The whole image as it is on disk, float32 and not normalised, with its geometry.

        ``case.id == case.volume == source.id``; axes in array order as nibabel gives them, for PNG
        and other pictures (row, column).
        """
        ...
