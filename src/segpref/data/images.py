"""Images without labels: the input of ``predict``, or an unlabelled pool."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from segpref.checking import checked
from segpref.data.cases import make_case, picture_channels, read_image
from segpref.data.dicom_images import dicom_sources, listed_series, print_report, series_of
from segpref.data.index import image_files, index, source_id
from segpref.data.manifest import Row, image_columns, is_manifest, read_manifest
from segpref.data.other_formats import unread
from segpref.data.packed_images import PackedImages, is_pack
from segpref.data.series_rule import ANY_SERIES, SeriesRule, SeriesTaken, chosen_series, nothing
from segpref.data.source import Reader, Source
from segpref.data.volumes import file_stem
from segpref.data.walk import entries
from segpref.progress import console
from segpref.targets import refuse_special
from segpref.types import Case, SegprefError

__all__ = ["Images", "images_for"]

log = logging.getLogger(__name__)

_COLOURS = ("red", "green", "blue")
_FIRST = "_0000"


@checked(channel_files={"least": 1})
class Images:
    """One image, a folder of images, or a table of them: NIfTI, MetaImage, NRRD, pictures, DICOM.

    The files of DICOM series may lie below the folder in any layout and under any names: each series of
    slices is one image, each radiograph one, of the patient that ``PatientID`` names. What of them are
    images is for ``series`` to say; ``report`` lists what was taken and what was left out, and why. A
    table, CSV or Parquet, names one image in every row, or the UID of a series in a folder
    (:func:`~segpref.data.manifest.read_manifest`). There is no label space: ``label_space`` is None,
    and the model that predicts brings its own. An image that is damaged or incomplete is an error when
    it is read, so that it does not keep the others from being read.

    Args:
        root: an image file, the folder of a DICOM series, a folder of images or series, or a table.
        channel_files: files per image. Above 1, files are named ``NAME_0000``, ``NAME_0001``, ... as
            nnU-Net does, and a table has the columns ``image_0000``, ``image_0001``, ... With 1,
            ``_0000`` is no part of the names of a folder's files where all have it.
        colour: read pictures as three channels (true) or as one (false); by default as the first
            picture is, which is grey where its colours are equal.
        channels: names of the channels that every image must have; by default those of the first
            image that can be read. With them no image is read at opening, and pictures have the
            channels of their files if ``colour`` is left out.
        series: which DICOM series are images, where there are several of one study.

    Raises:
        SegprefError: no image, or several series of one study where ``series`` does not take all.
    """

    label_space: None = None

    def __init__(
        self,
        root: Path | str,
        channel_files: int = 1,
        colour: bool | None = None,
        channels: Sequence[str] | None = None,
        series: SeriesRule = ANY_SERIES,
    ) -> None:
        path = Path(root).expanduser()
        path = path.parent if path.name.upper() == "DICOMDIR" and path.is_file() else path
        groups: list[tuple[str, tuple[Path, ...]]]
        refuse_special(path)
        of_series: Iterable[Source] = ()
        self.patients_known: bool = False
        if path.is_file() and is_manifest(path):
            rows = _listed(path, channel_files)
            groups = [(row.id, row.files) for row in rows if not row.series]
            of_series = listed_series(path, [row for row in rows if row.series])
            self.patients_known = not groups and all(
                one.series is not None and one.series.patient for one in of_series
            )
        elif path.is_file():
            groups = [(file_stem(path), (path,))]
        elif not path.is_dir():
            raise SegprefError(f"{path} does not exist: correct the path or restore the file")
        else:
            groups = list(_found(path) if channel_files == 1 else _grouped(path, channel_files))
            _say_what_is_not_read(path)
        own = None if series == ANY_SERIES else repr(series)
        plain = (
            Source(id=name, patient=name, images=files, key=own if files[0].is_dir() else None)
            for name, files in ((source_id(text), files) for text, files in groups)
        )
        self._rule = series
        self.report: tuple[SeriesTaken, ...] = ()
        if path.is_dir() and channel_files == 1:
            taken, self.report = chosen_series(path, series)
            print_report(self.report)
            if self.report and not taken and not groups:
                raise nothing(path, self.report)
            self.patients_known = not groups and all(one.patient for one in taken)
            of_series = dicom_sources(path, taken)
        what = "image (NIfTI, DICOM, MetaImage, NRRD, PNG, JPEG, TIFF, BMP or GIF)"
        self._sources = index(path, chain(plain, of_series), what)
        self._told = False
        self.channels: tuple[str, ...]
        self._colour: bool | None
        if channels is not None:
            self.channels, self._colour = tuple(channels), colour
            return
        firsts = [source.parts[0] for source in self._sources]
        self.channels, self._colour = picture_channels(firsts, colour)
        if channel_files > 1:
            self.channels = tuple(f"channel {number}" for number in range(channel_files))

    def sources(self) -> Sequence[Source]:
        """One source per image."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The image with its geometry; ``label`` is None."""
        if source.series is None and source.images[0].is_dir():
            source = replace(source, series=series_of(source, self._rule))
        coloured = None if self._told else self._warn_of_colour
        return make_case(source, read_image(source, self.channels, self._colour, coloured), None)

    def _warn_of_colour(self, path: Path) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "%s is in colour, but one channel is wanted: of such pictures the luminance is used",
                path,
            )


def images_for(
    root: Path | str,
    channels: Sequence[str],
    series: SeriesRule = ANY_SERIES,
) -> Reader:
    """Images as a model takes them that was trained on these channels.

    Of a model of several channels the files are ``NAME_0000``, ``NAME_0001``, ... where the folder
    has such files, and the columns ``image_0000``, ``image_0001``, ... where a table has these.
    Pictures become grey for one channel, and red, green and blue for a model of these; for other models
    they must have the channels. A packed dataset is read without its labels. Of DICOM series those are
    read that the rule takes.
    """
    count, folder = len(channels), Path(root).expanduser()
    if is_pack(folder):
        return PackedImages(folder, channels)
    if folder.is_file() and is_manifest(folder):
        numbered = len(image_columns(folder)) > 1
    else:
        numbered = count > 1 and folder.is_dir() and _has_channel_files(folder)
    if numbered or count == 1:
        return Images(root, count, False, channels, series)
    return Images(root, 1, True if tuple(channels) == _COLOURS else None, channels, series)


def _listed(path: Path, count: int) -> list[Row]:
    columns, rows = read_manifest(path)
    if len(columns) != count:
        raise SegprefError(
            f"{path} has {len(columns)} columns of images ({', '.join(columns)}) where images of "
            f"{count} channel files are wanted: give one column for each"
        )
    return list(rows)


def _say_what_is_not_read(folder: Path) -> None:
    if files := unread(entries(folder)):
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        console.print(
            f"{folder} holds {files[0].name}{more} in a format that is not read: convert images to "
            "NIfTI, DICOM, PNG or TIFF.",
            soft_wrap=True,
        )


def _has_channel_files(folder: Path) -> bool:
    return any(file_stem(path).endswith("_0001") for path in image_files(folder))


def _found(folder: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    files = image_files(folder)
    numbered = all(file_stem(path).endswith(_FIRST) for path in files)
    for path in files:
        yield file_stem(path).removesuffix(_FIRST) if numbered else file_stem(path), (path,)


def _grouped(folder: Path, count: int) -> Iterator[tuple[str, tuple[Path, ...]]]:
    endings: dict[str, str] = {}
    for path in image_files(folder):
        found = re.fullmatch(r"(.+)_(\d{4})", file_stem(path))
        if found is None:
            raise SegprefError(
                f"{path} has no channel number: name files NAME_0000, NAME_0001, ..., or set "
                "channel_files to 1"
            )
        if int(found[2]) >= count:
            raise SegprefError(
                f"{path} is channel {int(found[2])}, but images have {count} channel files numbered "
                "from 0000: remove it or correct channel_files"
            )
        endings.setdefault(found[1], path.name.removeprefix(file_stem(path)))
    for stem, ending in endings.items():
        yield stem, tuple(folder / f"{stem}_{number:04d}{ending}" for number in range(count))
