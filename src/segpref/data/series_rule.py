"""Which series of an export are images: a rule, what it takes, and why it leaves out the rest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from segpref.data.dicom_series import Orientation, Series, found_series
from segpref.settings import Settings, setting
from segpref.types import SegprefError

__all__ = [
    "ANY_SERIES",
    "Chosen",
    "SeriesRule",
    "SeriesTaken",
    "chosen_series",
    "nothing",
    "of_uid",
    "one_series",
]

_LISTED = 5
_TAKEN = "taken"


@dataclass(frozen=True, kw_only=True)
class SeriesRule(Settings):
    """Which series of DICOM exports are images; what is not given does not matter."""

    modality: str | None = None
    """Such as CT or MR."""

    description: str | None = None
    """Pattern of the SeriesDescription, such as "*thorax*"; capitals do not matter."""

    orientation: Orientation | None = None
    """How slices lie: axial, coronal or sagittal, whichever is nearest."""

    min_slices: int | None = setting(None, least=1)
    """Fewest slices."""

    max_slices: int | None = setting(None, least=1)
    """Most slices."""

    uid: str | None = None
    """The SeriesInstanceUID of the one series that is wanted."""

    all: bool = False
    """Take every series of a study as an image of its own; otherwise more than one is refused."""

    def misses(self, series: Series) -> str:
        """Why the rule does not take the series; empty where it does."""
        if self.uid is not None and series.uid != self.uid:
            return "another SeriesInstanceUID"
        if self.modality is not None and series.modality != self.modality.upper():
            return f"modality {series.modality or 'unknown'}"
        if self.description is not None and not fnmatchcase(
            series.description.lower(), self.description.lower()
        ):
            return f"description {series.description or 'unknown'}"
        if self.orientation is not None and series.orientation != self.orientation:
            return f"orientation {series.orientation or 'unknown'}"
        if series.slices < (self.min_slices or 1):
            return f"fewer than {self.min_slices} slices"
        if self.max_slices is not None and series.slices > self.max_slices:
            return f"more than {self.max_slices} slices"
        return ""


ANY_SERIES = SeriesRule()
"""The rule that takes every series, one of each study."""


class SeriesTaken(NamedTuple):
    """A line of the report: a series, and whether it is an image.

    Args:
        state: ``taken``, or ``left out``.
        why: it was left out; empty where it was taken.
        patient: ``PatientID``; this and the following are empty where files don't say.
        date: of the study.
        modality: such as CT.
        description: of the series.
        slices: how many.
        orientation: of the slices.
        folder: where its files lie.
        series: its UID.
        study: its UID.
    """

    state: str
    why: str
    patient: str
    date: str
    modality: str
    description: str
    slices: int
    orientation: str
    folder: str
    series: str
    study: str


class Chosen(NamedTuple):
    """What a rule takes.

    Args:
        series: the images; radiographs of one series are one each.
        report: one line per series, and per kind of what else there is.
    """

    series: tuple[Series, ...]
    report: tuple[SeriesTaken, ...]


def chosen_series(root: Path, rule: SeriesRule) -> Chosen:
    """The series below a folder that a rule takes.

    Secondary captures, and pictures without a position, are left out where their study has other
    series; alone they are images.

    Raises:
        SegprefError: the rule leaves several series of one study, and ``rule.all`` is not set.
    """
    found, left = found_series(root)
    reasons: dict[int, str] = {}
    studies: dict[str, list[Series]] = defaultdict(list)
    for one in found:
        # What can't be read is neither one nor the other: reading it reports what is wrong.
        unread = not any(one.instances) and not one.sop_class
        if why := "" if unread else rule.misses(one):
            reasons[id(one)] = why
        else:
            studies[one.study_key].append(one)
    for together in studies.values():
        reasons |= _beside(together)
    taken = [one for one in found if id(one) not in reasons]
    if not rule.all:
        _refuse_several(root, taken)
    rows = [_row(one, reasons.get(id(one), "")) for one in found if one.sop_class]
    rows += [_row(one.series, one.why) for one in left]
    rows.sort(key=lambda row: (row.patient, row.date, row.study, row.state != _TAKEN, row.series))
    return Chosen(tuple(taken), tuple(rows))


def one_series(root: Path, rule: SeriesRule) -> Series:
    """The one series in or below a folder that a rule takes.

    Raises:
        SegprefError: none, or several.
    """
    taken, report = chosen_series(root, rule)
    if not taken:
        raise nothing(root, report)
    if len(taken) > 1 and any(one.sop_class for one in taken):
        raise _several(root, taken)
    return taken[0]


def of_uid(found: Iterable[Series], uid: str) -> Series | None:
    """The slices of this SeriesInstanceUID, without pictures that are filed under it; None without."""
    same = [one for one in found if one.uid == uid and one.sop_class]
    beside = _beside(same)
    return next((one for one in same if id(one) not in beside), None)


def nothing(root: Path, report: Sequence[SeriesTaken]) -> SegprefError:
    """The error about a folder of which no series is an image."""
    if not report:
        return SegprefError(
            f"{root} holds no DICOM image: point to the folder of one series, or to an image file"
        )
    reasons = Counter(row.why for row in report)
    told = ", ".join(f"{count} x {why}" for why, count in reasons.most_common(_LISTED))
    return SegprefError(
        f"{root} holds no DICOM image that is wanted (left out: {told}): correct the rule (--series), "
        "or point to the folder of an image series"
    )


def _beside(study: Sequence[Series]) -> dict[int, str]:
    """Which of a study's series are no images because of the others."""
    reasons: dict[int, str] = {}
    if any(not one.secondary for one in study):
        reasons |= {id(one): "a secondary capture" for one in study if one.secondary}
    left = [one for one in study if id(one) not in reasons]
    if any(one.placed for one in left):
        flat = (one for one in left if not one.placed and one.sop_class)
        reasons |= {id(one): "no position, beside slices that have one" for one in flat}
    return reasons


def _refuse_several(root: Path, taken: Iterable[Series]) -> None:
    studies: dict[str, list[Series]] = defaultdict(list)
    for one in taken:
        if one.placed:
            studies[one.study_key].append(one)
    crowded = [study for study in studies.values() if len(study) > 1]
    if crowded:
        raise _several(root, crowded[0], len(crowded) - 1)


def _several(root: Path, study: Sequence[Series], more: int = 0) -> SegprefError:
    listed = sorted(study, key=lambda one: (one.number.zfill(9), one.uid))
    names = "; ".join(_told(one) for one in listed[:_LISTED])
    names += f"; and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    also = f", and {more} more studies hold several" if more else ""
    place = listed[0].folder
    return SegprefError(
        f"{place if place.is_relative_to(root) else root} holds {len(study)} DICOM series of one study "
        f"({names}){also}: choose by --series.description, --series.modality, --series.orientation, "
        "--series.min_slices, --series.max_slices or --series.uid, or take each as an image of its own "
        "with --series.all"
    )


def _told(one: Series) -> str:
    parts = (one.description, one.modality, one.orientation, _count(one.slices), one.uid)
    return " ".join(part for part in parts if part)


def _count(slices: int) -> str:
    return f"{slices} slice{'' if slices == 1 else 's'}"


def _row(series: Series, why: str) -> SeriesTaken:
    return SeriesTaken(
        state="left out" if why else _TAKEN,
        why=why,
        patient=series.patient,
        date=series.date,
        modality=series.modality,
        description=series.description,
        slices=series.slices,
        orientation=series.orientation or "",
        folder=str(series.folder),
        series=series.uid,
        study=series.study,
    )
