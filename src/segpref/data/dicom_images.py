"""Sources of images from the DICOM series below a folder, and the report of what was taken."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from segpref.data.csv_files import write_csv
from segpref.data.dicom_marks import is_dicom
from segpref.data.dicom_series import Series, found_series, series_of_files
from segpref.data.index import source_id
from segpref.data.manifest import Row
from segpref.data.series_rule import ANY_SERIES, SeriesRule, SeriesTaken, of_uid, one_series
from segpref.data.source import Reader, Source
from segpref.progress import console
from segpref.types import SegprefError

__all__ = [
    "REPORT",
    "dicom_sources",
    "listed_series",
    "print_report",
    "series_of",
    "write_series_report",
]

REPORT = "series.csv"
"""What a command calls the report of DICOM series in its folder."""

_ROWS = 20


def series_of(source: Source, rule: SeriesRule | None = None) -> Series | None:
    """The DICOM series that a source is: files by position, their UIDs, and the frame of reference.

    It is known where the source was found in a folder. Of a file or folder that was named otherwise, as
    in a table, headers are read. None for other images.
    """
    if source.series is not None or not source.images:
        return source.series
    place = source.images[0]
    if place.is_dir():
        return one_series(place, rule or ANY_SERIES)
    return series_of_files([place]) if is_dicom(place) else None


def dicom_sources(folder: Path, series: Sequence[Series]) -> Iterator[Source]:
    """One source per series of slices, and per file of the others.

    A series that has a folder for itself is named after it, as its files are. Others are named by
    patient, date and description of the series, and by its number or UID where these are not unique.
    Images of one patient share ``PatientID``; without one, those of one study count as a patient.
    """
    holders = Counter(one.folder for one in series)
    alone = {id(one) for one in series if holders[one.folder] == 1 and _in_one_folder(one)}
    named = [one for one in series if one.placed and id(one) not in alone]
    names = _names(named)
    for one in series:
        above = one.folder.relative_to(folder).parts
        patient = _patient(one)
        if not one.placed:
            for file, instance in zip(one.files, one.instances, strict=True):
                name = source_id("_".join((*above, _stem(file))))
                single = replace(one, files=(file,), instances=(instance,), slices=1)
                yield Source(id=name, patient=patient or name, images=(file,), series=single)
            continue
        if id(one) in alone:
            name, key = source_id("_".join(above) or folder.resolve().name), None
        else:
            name, key = names[one], one.uid or None
        yield Source(id=name, patient=patient or name, images=(one.folder,), series=one, key=key)


def listed_series(table: Path, rows: Sequence[Row]) -> list[Source]:
    """One source per row of a table that names a folder and the UID of a series in or below it.

    Headers are read once for each folder.

    Raises:
        SegprefError: a series that is not there.
    """
    found: dict[Path, list[Series]] = {}
    sources = []
    for row in rows:
        folder = row.files[0]
        if folder not in found:
            found[folder], _ = found_series(folder)
        one = of_uid(found[folder], row.series)
        if one is None:
            raise SegprefError(
                f"{table} names the series {row.series} of {row.id}, which is not in {folder}: "
                "restore it, correct the UID, or drop the row"
            )
        patient = _patient(one) or row.id
        sources.append(
            Source(id=row.id, patient=patient, images=(folder,), series=one, key=one.uid)
        )
    return sources


def print_report(report: Sequence[SeriesTaken]) -> None:
    """Show what was taken and what was left out; nothing where all is an image."""
    groups: dict[tuple[str, str, str], list[SeriesTaken]] = defaultdict(list)
    for row in report:
        groups[(row.state, row.why, row.modality)].append(row)
    if all(row.state == "taken" for row in report):
        return
    table = Table(title="DICOM series")
    for name in ("", "why", "modality", "series", "slices", "such as"):
        table.add_column(name, justify="right" if name in ("series", "slices") else "left")
    ordered = sorted(groups.items(), key=lambda one: (one[0][0] != "taken", -len(one[1]), one[0]))
    for (state, why, modality), rows in ordered[:_ROWS]:
        such = rows[0].description or rows[0].folder
        counts = (str(len(rows)), str(sum(row.slices for row in rows)))
        table.add_row(state, why, modality, *counts, such)
    if len(ordered) > _ROWS:
        table.caption = f"and {len(ordered) - _ROWS} more kinds"
    console.print(table)


def write_series_report(reader: Reader, folder: Path) -> None:
    """Write ``series.csv``, a line per series, where the images are of DICOM series in a folder."""
    report: Sequence[SeriesTaken] = getattr(reader, "report", ())
    if report:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / REPORT, [row._asdict() for row in report])


def _patient(series: Series) -> str | None:
    return series.patient or (source_id(series.study) if series.study else None)


def _in_one_folder(series: Series) -> bool:
    return len({file.parent for file in series.files}) == 1


def _stem(file: Path) -> str:
    # Names without an ending may hold dots: UIDs do.
    return file.stem if file.suffix[1:].isalpha() else file.name


def _names(series: Sequence[Series]) -> dict[Series, str]:
    """Names that do not depend on the order of files."""

    def parts(one: Series) -> tuple[str, ...]:
        what = one.description or one.modality or "series"
        return tuple(filter(None, (one.patient, one.date, what)))

    forms = (
        lambda one: parts(one),
        lambda one: (*parts(one), one.number or one.uid),
        lambda one: (*parts(one), one.uid, str(one.files[0].name)),
    )
    found: dict[Series, str] = {}
    left = list(series)
    for form in forms:
        made = {one: source_id("_".join(form(one)))[:150] for one in left}
        counts = Counter(made.values())
        found |= {one: name for one, name in made.items() if counts[name] == 1}
        left = [one for one in left if one not in found]
    return found | {one: source_id(f"{one.uid}_{one.files[0]}") for one in left}
