"""Manifests: tables that list images, CSV or Parquet, for pools that no folder holds."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segpref.data.index import as_written, source_id
from segpref.data.names import check_id
from segpref.data.volumes import file_stem
from segpref.disk import cannot_read
from segpref.extras import needed
from segpref.targets import refuse_special
from segpref.types import SegprefError

__all__ = ["Manifest", "Row", "image_columns", "is_manifest", "read_manifest", "read_table"]

_ENDINGS = (".csv", ".parquet")
_CHANNEL = re.compile(r"image_(\d{4})")


class Row(NamedTuple):
    """An image of a table.

    Args:
        id: of the image.
        files: one per column of images.
        series: the SeriesInstanceUID of the one series of its folder that is meant; empty where the
            table does not say.
    """

    id: str
    files: tuple[Path, ...]
    series: str


class Manifest(NamedTuple):
    """What a table of images lists.

    Args:
        columns: the columns of the images: ``image``, or ``image_0000``, ``image_0001``, ...
        rows: the images, in the order of the table.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def is_manifest(path: Path) -> bool:
    """Whether the name says that a file is a table of images."""
    return path.suffix.lower() in _ENDINGS and not path.is_dir()


def image_columns(path: Path) -> tuple[str, ...]:
    """The columns of a table that name images; no image is looked for."""
    return _image_columns(path, read_table(path)[0])


def read_manifest(path: Path) -> Manifest:
    """Images that a table lists, one per row.

    The column ``image`` names a file, or the folder of a DICOM series, by a path that is absolute or
    relative to the table; where every channel has a file of its own, the columns are ``image_0000``,
    ``image_0001``, ... as in nnU-Net's names. The column ``id`` is optional: masks are named after it,
    and after the (first) file without it. So is ``series_uid``, the SeriesInstanceUID of one of several
    series of a folder. Other columns are left alone.

    Raises:
        SegprefError: no such table, no column of images, a row without an image or whose file is not
            there, an id that is none or that two rows have, or a series that is in no folder.
    """
    columns, rows = read_table(path)
    images = _image_columns(path, columns)
    if not rows:
        raise SegprefError(f"{path} lists no image: add a row for each of them")
    found: list[Row] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        place = f"{path}, row {number}"
        files = tuple(_file(path, place, name, row.get(name)) for name in images)
        own = row.get("id") if "id" in columns else source_id(file_stem(files[0]))
        name = str(own) if isinstance(own, int) else own
        check_id(name, place)
        assert isinstance(name, str)
        if name in seen:
            fix = (
                "correct one of them"
                if "id" in columns
                else "add a column id that tells them apart"
            )
            raise SegprefError(
                f"{path}, rows {seen[name]} and {number} both have the id {name}: {fix}"
            )
        seen[name] = number
        found.append(Row(name, files, _series(place, files[0], row.get("series_uid"))))
    return Manifest(images, tuple(found))


def _image_columns(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    channels = sorted(name for name in columns if _CHANNEL.fullmatch(name))
    if "image" in columns and channels:
        raise SegprefError(
            f"{path} has the column image and {channels[0]}: keep image, or one column for each channel"
        )
    if "image" in columns:
        return ("image",)
    if not channels:
        told = ", ".join(columns) or "none"
        raise SegprefError(
            f"{path} has no column image (its columns: {told}): name the column of the files' paths "
            "image, or image_0000, image_0001, ... where every channel has a file of its own"
        )
    for number, name in enumerate(channels):
        if name != f"image_{number:04d}":
            raise SegprefError(
                f"{path} has the column {name} but not image_{number:04d}: number channels from 0000"
            )
    return tuple(channels)


def _file(path: Path, place: str, column: str, entry: object) -> Path:
    if not isinstance(entry, str) or not entry.strip() or "\0" in entry:
        raise SegprefError(f"{place} names no file as {column}: add its path or drop the row")
    file = as_written(path.parent / Path(entry.strip()).expanduser())
    # A link that leads nowhere counts as missing, too.
    if not file.exists():
        raise SegprefError(
            f"{place} names {file}, which does not exist: restore the file, correct the path (relative "
            "to the table), or drop the row"
        )
    refuse_special(file)
    return file


def _series(place: str, folder: Path, entry: object) -> str:
    uid = str(entry).strip() if entry is not None else ""
    if uid and not folder.is_dir():
        raise SegprefError(
            f"{place} names the series {uid} of {folder}, which is no folder: give the folder of the "
            "series as image, or leave its series_uid empty"
        )
    return uid


def read_table(path: Path) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Columns and rows of a CSV or Parquet table.

    Raises:
        SegprefError: no such file, or no table.
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _parquet(path)
        return _csv(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SegprefError(
            f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8"
        ) from error
    except (csv.Error, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise SegprefError(f"{path} is not a table ({reason}): write it again") from error
    except OSError as error:
        raise cannot_read(path, error) from error


def _parquet(path: Path) -> tuple[list[str], list[Mapping[str, Any]]]:
    table = needed("pyarrow.parquet", "cluster").read_table(path)
    names = [str(name) for name in table.column_names]
    wanted = [
        name for name in names if name in ("image", "id", "series_uid") or _CHANNEL.fullmatch(name)
    ]
    return names, table.select(wanted).to_pylist()


def _csv(text: str) -> tuple[list[str], list[Mapping[str, Any]]]:
    lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    if not lines:
        return [], []
    names, *rows = lines
    names = [name.strip() for name in names]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} cells where {len(names)} are due")
    return names, [dict(zip(names, row, strict=True)) for row in rows]
