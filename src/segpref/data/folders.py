"""Images and masks in plain folders, and folders of images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from segpref.checking import checked
from segpref.data.cases import (
    make_case,
    picture_channels,
    read_binary,
    read_image,
    read_labels,
)
from segpref.data.index import dataset_folder, index, patient_of, source_id
from segpref.data.pairing import (
    ONE_STRUCTURE,
    MasksOfImages,
    apart,
    beside,
    by_image,
    chosen,
    without,
)
from segpref.data.pictures import is_lossy
from segpref.data.source import Source
from segpref.data.volumes import PICTURE_SUFFIXES, VolumeFile, file_stem, read_volume
from segpref.types import IGNORE, Case, LabelSpace, SegprefError

__all__ = ["Folders"]

MOST_CLASSES = 200
"""A label map of a volume with more values than that looks like an image."""


@checked(ignore={"least": 0, "most": 65535})
class Folders:
    """Paired images and masks: NIfTI, PNG, JPEG, TIFF, BMP or GIF, mixed as they come.

    Three layouts, distinguished by their folders and names:

    - ``images/NAME.ext`` with ``labels/NAME.ext``: one label map per image, multi-class;
    - ``images/NAME.ext`` with ``masks/STRUCTURE/NAME.ext``: one binary mask per structure, multi-label;
    - ``NAME.ext`` beside ``NAME_mask.ext`` (``suffix="_mask"``), also in subfolders, whose names become
      the strata: one structure. Further masks ``NAME_mask_1.ext`` are united with the first.

    Images without any mask are unlabelled; masks without an image, or an image that lacks only some
    structures, are errors. A label map of two classes may hold 0 and 255.

    Args:
        root: folder of the dataset.
        images: subfolder of the images.
        labels: subfolder of label maps or of one folder per structure; ``labels`` or ``masks`` by
            default, whichever is there.
        names: class names from the background on, or structure names in the order wanted; by default
            from the values of all label maps (which are read for it) or from the subfolders.
        suffix: what follows the image's stem in the names of masks, such as ``_mask``.
        threshold: masks are what lies above this value. By default pictures of binary masks with
            other values than 0 and 1, and all JPEGs, are cut at 127.
        ignore: value of pixels in label maps whose class is unknown.
        patient_pattern: regular expression with one group that finds the patient in an image's stem;
            without it nothing links images to patients and each image counts as one.
        colour: read pictures as three channels (true) or as one (false); by default as the first
            picture is, which is grey where its colours are equal.
        exclude: one or several images to leave out with their masks, say for a mask that is wrong:
            their ids, their file names without the ending, or patterns of these such as ``normal*``.
    """

    def __init__(
        self,
        root: Path | str,
        images: str = "images",
        labels: str | None = None,
        names: Sequence[str] = (),
        suffix: str = "",
        threshold: float | None = None,
        ignore: int | None = None,
        patient_pattern: str | None = None,
        colour: bool | None = None,
        exclude: Sequence[str] | str = (),
    ) -> None:
        folder = dataset_folder(root, "images/ and labels/ or masks/")
        self._threshold, self._ignore = threshold, ignore
        together = bool(suffix) and not (folder / images).is_dir()
        pictures, groups = (
            beside(folder, suffix) if together else apart(folder, images, labels, suffix)
        )
        pictures, groups = without(folder, exclude, pictures, groups, together)
        files = by_image(pictures, chosen(folder, groups, names), together)
        self._maps = "" in groups
        self.label_space = self._space(names, groups, files)
        if self._maps and not self._binary:
            for parts in files.values():
                if len(parts[0]) > 1:
                    raise SegprefError(
                        f"{parts[0][0]} and {parts[0][1].name} are label maps of one image: remove one"
                    )
        self.channels, self._colour = picture_channels(pictures, colour)
        self.patients_known = patient_pattern is not None
        sources = (
            Source(
                id=source_id(file_stem(path)),
                patient=patient_of(file_stem(path), patient_pattern),
                images=(path,),
                labels=tuple(file for part in files.get(path, ()) for file in part),
                stratum=path.parent.name if together and path.parent != folder else None,
            )
            for path in pictures
        )
        # Files per structure, where one has several: all others can be told from a source.
        self._counts = {
            source_id(file_stem(path)): tuple(map(len, parts))
            for path, parts in files.items()
            if any(len(part) > 1 for part in parts)
        }
        self._sources = index(folder, sources, "image (NIfTI, PNG, JPEG, TIFF, BMP or GIF)")

    def sources(self) -> Sequence[Source]:
        """One source per image."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The image and its masks, on one grid."""
        try:
            image = read_image(source, self.channels, self._colour)
            return make_case(source, image, self._label(source, image))
        except SegprefError as error:
            raise SegprefError(
                f"{error}, or leave the image out with the option exclude={source.id}"
            ) from error

    def _label(self, source: Source, image: VolumeFile) -> UInt8[np.ndarray, "field *space"] | None:
        path = source.images[0]
        if not source.labels:
            return None
        if self._maps and not self._binary:
            space = self.label_space
            values = {value: number for number, value in enumerate(space.disk_values)}
            if self._ignore in values:
                raise SegprefError(
                    f"ignore is {self._ignore}, the value of {space.names[values[self._ignore]]}: "
                    "correct names or ignore"
                )
            if self._ignore is not None:
                values[self._ignore] = IGNORE
            return read_labels(source.labels[0], image, path, values, space.names)
        files = iter(source.labels)
        counts = self._counts.get(source.id) or (1,) * len(source.labels)
        fields = [
            np.maximum.reduce(
                [read_binary(file, image, path, self._threshold) for file in islice(files, count)]
            )
            for count in counts
        ]
        return np.stack(fields)

    @property
    def _binary(self) -> bool:
        """Whether label maps are read as masks of one structure, 0 and 1 or 255."""
        values = set(self.label_space.disk_values)
        return self._ignore is None and values in ({0, 1}, {0, 255})

    def _space(
        self, names: Sequence[str], groups: Mapping[str, object], files: MasksOfImages
    ) -> LabelSpace:
        if not self._maps:
            return LabelSpace("multi-label", tuple(names) or tuple(groups))
        maps = [part[0] for parts in files.values() for part in parts]
        if names or self._threshold is not None:
            names = tuple(names) or ("background", ONE_STRUCTURE)
            white = len(names) == 2 and self._ignore is None and _white(maps)
            return LabelSpace("multi-class", names, on_disk=(0, 255) if white else ())
        return _space_of_values(maps, self._ignore)


def _white(maps: Sequence[Path]) -> bool:
    """Whether a structure is white in its masks, and not 1: in the first that it is drawn in."""
    for path in maps:
        try:
            top = read_volume(path, "grey").array.max(initial=0)
        except SegprefError:  # due when it is read
            continue
        if top > 0:
            return bool(top > 1)
    return False


def _space_of_values(maps: Sequence[Path], ignore: int | None) -> LabelSpace:
    values: set[int] = set()
    for path in maps:
        if is_lossy(path):
            values |= {0, 255}
        else:
            found = np.unique(read_volume(path, "labels").array)
            if found.size and found.min() <= -0.5:
                raise SegprefError(
                    f"{path} holds the label value {found.min():g}: number the classes from 0, or set "
                    "threshold for binary masks"
                )
            values |= set(map(int, np.round(found).tolist()))
        classes = values - {ignore}
        # Volumes of whole bodies and brains have labels up to some thousand, but not many of them.
        picture = path.suffix.lower() in PICTURE_SUFFIXES
        many = max(classes, default=0) > 100 if picture else len(classes) > MOST_CLASSES
        if many and not classes <= {0, 255}:
            raise SegprefError(
                f"{path} holds values up to {max(classes)}, which look like grey levels: set "
                "threshold for binary masks, names for classes, or ignore"
            )
    on_disk = tuple(sorted((values - {ignore}) | {0}))
    if on_disk in ((0,), (0, 1), (0, 255)):
        two = ("background", ONE_STRUCTURE)
        return LabelSpace("multi-class", two, on_disk=on_disk if 255 in on_disk else ())
    names = ("background", *(f"class {value}" for value in on_disk[1:]))
    gaps = on_disk != tuple(range(len(on_disk)))
    return LabelSpace("multi-class", names, on_disk=on_disk if gaps else ())
