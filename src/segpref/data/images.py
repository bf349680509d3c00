"""Images without labels: what ``predict`` is given, or a pool that nobody has annotated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from segpref.data.cases import make_case, read_image
from segpref.data.dicom import holds_dicom, is_dicom, is_radiograph
from segpref.data.folders import picture_channels
from segpref.data.index import image_files, index, required, source_id
from segpref.data.source import Source
from segpref.data.volumes import file_stem
from segpref.types import Case, SegprefError

__all__ = ["Images"]


class Images:
    """One image, or a folder of images: NIfTI, pictures, DICOM radiographs, DICOM series.

    A folder that holds the slices of a series is one image; the folder of a study gives one image
    per subfolder that holds a series. There is no label space: ``label_space`` is None, and the
    model that predicts brings its own.

    Args:
        root: an image file, the folder of a DICOM series, or a folder of images or series.
        channel_files: files per image. Above 1, files are named ``NAME_0000``, ``NAME_0001``, ... as
            nnU-Net does.
        colour: read pictures as three channels (true) or as one (false); by default as the first
            picture is, which is grey where its colours are equal.
    """

    label_space: None = None
    patients_known: bool = False

    def __init__(
        self, root: Path | str, channel_files: int = 1, colour: bool | None = None
    ) -> None:
        path = Path(root).expanduser()
        groups: list[tuple[str, tuple[Path, ...]]]
        if path.is_file():
            groups = [(file_stem(path), (path,))]
        elif not path.is_dir():
            raise SegprefError(f"{path} does not exist: correct the path or restore the file")
        else:
            folder = path
            groups = list(_found(folder) if channel_files == 1 else _grouped(folder, channel_files))
        sources = [
            Source(id=source_id(name), patient=source_id(name), images=files)
            for name, files in groups
        ]
        what = "image (NIfTI, DICOM, PNG, JPEG, TIFF, BMP or GIF)"
        self._sources = index(path, sources, what)
        firsts = [source.images[0] for source in self._sources]
        self.channels, self._colour = picture_channels(firsts, colour)
        if channel_files > 1:
            self.channels = tuple(f"channel {number}" for number in range(channel_files))

    def sources(self) -> tuple[Source, ...]:
        """One source per image."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The image with its geometry; ``label`` is None."""
        return make_case(source, read_image(source, self.channels, self._colour), None)


def _found(folder: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    for path in image_files(folder):
        yield file_stem(path), (path,)
    for place in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]:
        if not holds_dicom(place):
            continue
        slices = sorted(path for path in place.iterdir() if is_dicom(path))
        name = "_".join(place.relative_to(folder).parts) or folder.resolve().name
        if is_radiograph(slices[0]):
            for path in slices:
                yield "_".join((*place.relative_to(folder).parts, file_stem(path))), (path,)
        else:
            yield name, (place,)


def _grouped(folder: Path, count: int) -> Iterator[tuple[str, tuple[Path, ...]]]:
    files = image_files(folder)
    firsts = [path for path in files if file_stem(path).endswith("_0000")]
    for first in firsts:
        stem = file_stem(first)[: -len("_0000")]
        ending = first.name.removeprefix(file_stem(first))
        parts = [first.with_name(f"{stem}_{number:04d}{ending}") for number in range(count)]
        yield (
            stem,
            tuple(
                required(
                    part, f"images have {count} channel files", "export it or set channel_files"
                )
                for part in parts
            ),
        )
    strays = [path for path in files if not re.search(r"_\d{4}$", file_stem(path))]
    if strays:
        raise SegprefError(
            f"{strays[0]} has no channel number: name files NAME_0000, NAME_0001, ..., or set "
            "channel_files to 1"
        )
