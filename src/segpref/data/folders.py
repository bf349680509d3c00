"""Images and masks in plain folders, and folders of images alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from segpref.data.cases import (
    JPEG_SUFFIXES,
    make_case,
    picture_channels,
    read_binary,
    read_image,
    read_labels,
)
from segpref.data.index import dataset_folder, image_files, index, patient_of, required, source_id
from segpref.data.source import Source
from segpref.data.volumes import Volume, file_stem, read_volume
from segpref.types import IGNORE, Case, LabelSpace, SegprefError

__all__ = ["Folders"]

_ONE_STRUCTURE = "foreground"


class Folders:
    """Paired images and masks: NIfTI, PNG, JPEG, TIFF, BMP or GIF, mixed as they come.

    Three layouts, told apart by what is there:

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
        ignore: value of pixels in label maps of which nobody knows the class.
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
        exclude: Sequence[str] = (),
    ) -> None:
        folder = dataset_folder(root, "images/ and labels/ or masks/")
        self._threshold, self._ignore = threshold, ignore
        together = bool(suffix) and not (folder / images).is_dir()
        pictures, groups = (
            _beside(folder, suffix) if together else _apart(folder, images, labels, suffix)
        )
        pictures, groups = _without(folder, exclude, pictures, groups, together)
        self._files = _by_image(pictures, _chosen(folder, groups, names), together)
        self._maps = "" in groups
        self.label_space = self._space(names, groups)
        self.channels, self._colour = picture_channels(pictures, colour)
        self.patients_known = patient_pattern is not None
        sources = [
            Source(
                id=source_id(file_stem(path)),
                patient=patient_of(file_stem(path), patient_pattern),
                images=(path,),
                labels=tuple(file for part in self._files.get(path, ()) for file in part),
                stratum=path.parent.name if together and path.parent != folder else None,
            )
            for path in pictures
        ]
        self._sources = index(folder, sources, "image (NIfTI, PNG, JPEG, TIFF, BMP or GIF)")

    def sources(self) -> tuple[Source, ...]:
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

    def _label(self, source: Source, image: Volume) -> UInt8[np.ndarray, "field *space"] | None:
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
        fields = [
            np.maximum.reduce([read_binary(file, image, path, self._threshold) for file in part])
            for part in self._files[path]
        ]
        return np.stack(fields)

    @property
    def _binary(self) -> bool:
        """Whether label maps are read as masks of one structure, 0 and 1 or 255."""
        values = set(self.label_space.disk_values)
        return self._ignore is None and values in ({0, 1}, {0, 255})

    def _space(self, names: Sequence[str], groups: Mapping[str, object]) -> LabelSpace:
        if not self._maps:
            return LabelSpace("multi-label", tuple(names) or tuple(groups))
        maps = [part[0] for parts in self._files.values() for part in parts]
        if names or self._threshold is not None:
            names = tuple(names) or ("background", _ONE_STRUCTURE)
            white = len(names) == 2 and self._ignore is None and _white(maps)
            return LabelSpace("multi-class", names, on_disk=(0, 255) if white else ())
        return _space_of_values(maps, self._ignore)


_Groups = dict[str, dict[str, list[Path]]]
"""Mask files by structure ("" for label maps) and by the key of their image."""


def _apart(
    folder: Path, images: str, labels: str | None, suffix: str
) -> tuple[list[Path], _Groups]:
    place = required(folder / images, "holds the images", "rename the folder or set images")
    there = [name for name in ("labels", "masks") if (folder / name).is_dir()]
    masks = folder / (labels or (there[0] if there else "labels"))
    required(masks, "holds the label maps or masks", "rename the folder or set labels")
    structures = sorted(path for path in masks.iterdir() if path.is_dir() and image_files(path))
    groups = {path.name: _by_key(image_files(path), suffix) for path in structures}
    return image_files(place), groups or {"": _by_key(image_files(masks), suffix)}


def _beside(folder: Path, suffix: str) -> tuple[list[Path], _Groups]:
    marked = re.compile(rf".*{re.escape(suffix)}(_\d+)?")
    files = image_files(folder, recursive=True)
    masks = [path for path in files if marked.fullmatch(file_stem(path))]
    images = [path for path in files if not marked.fullmatch(file_stem(path))]
    if not masks:
        raise SegprefError(
            f"{folder} holds neither images/ nor files named like NAME{suffix}.png: correct suffix"
        )
    return images, {_ONE_STRUCTURE: _by_key(masks, suffix, beside=True)}


def _by_key(files: Iterable[Path], suffix: str, beside: bool = False) -> dict[str, list[Path]]:
    ending = re.compile(rf"{re.escape(suffix)}(_\d+)?$") if suffix else None
    found: dict[str, list[Path]] = {}
    for path in files:
        stem = ending.sub("", file_stem(path)) if ending else file_stem(path)
        found.setdefault(str(path.parent / stem) if beside else stem, []).append(path)
    for paths in found.values():
        if len(paths) > 1 and not suffix:
            raise SegprefError(
                f"{paths[0]} and {paths[1].name} are masks of one image: remove one of them"
            )
    return found


def _chosen(folder: Path, groups: _Groups, names: Sequence[str]) -> _Groups:
    """The structures that are asked for, in their order."""
    if not names or "" in groups:
        return groups
    if len(names) == 1 and list(groups) == [_ONE_STRUCTURE]:
        return groups
    for name in names:
        if name not in groups:
            raise SegprefError(
                f"{folder} has no masks of {name!r}, only of {', '.join(groups)}: correct names"
            )
    return {name: groups[name] for name in names}


def _without(
    folder: Path, exclude: Sequence[str], images: Sequence[Path], groups: _Groups, beside: bool
) -> tuple[list[Path], _Groups]:
    """Images and masks but for those to leave out."""
    names = [exclude] if isinstance(exclude, str) else exclude
    meant = {name: [path for path in images if _named(path, name)] for name in names}
    if unknown := [name for name, paths in meant.items() if not paths]:
        raise SegprefError(
            f"{folder} has no image with the id {min(unknown)!r} to leave out: correct exclude"
        )
    out = {path for paths in meant.values() for path in paths}
    keys = {_key(path, beside) for path in out}
    kept = {
        structure: {key: files for key, files in masks.items() if key not in keys}
        for structure, masks in groups.items()
    }
    return [path for path in images if path not in out], kept


def _named(image: Path, name: str) -> bool:
    """Whether an image is called so, or as a pattern with ``*`` says."""
    own = file_stem(image)
    return source_id(own) == source_id(name) or ("*" in name and fnmatchcase(own, name))


def _key(image: Path, beside: bool) -> str:
    return str(image.parent / file_stem(image)) if beside else file_stem(image)


def _by_image(
    images: Sequence[Path], groups: _Groups, beside: bool
) -> dict[Path, tuple[tuple[Path, ...], ...]]:
    """Per image the mask files of every structure; images without any are left out."""
    keys = {path: _key(path, beside) for path in images}
    for masks in groups.values():
        for key in sorted(set(masks) - set(keys.values())):
            raise SegprefError(
                f"{masks[key][0]} has no image: restore the image, remove the mask, or set suffix if "
                "masks are named differently"
            )
    found = {}
    for path, key in keys.items():
        missing = [structure for structure, masks in groups.items() if key not in masks]
        if len(missing) == len(groups):
            continue
        if missing:
            raise SegprefError(
                f"{path} lacks the mask of {' and '.join(missing)}: add it, empty where there is none"
            )
        found[path] = tuple(tuple(masks[key]) for masks in groups.values())
    return found


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
        if path.suffix.lower() in JPEG_SUFFIXES:
            values |= {0, 255}
        else:
            found = np.unique(read_volume(path, "labels").array)
            values |= set(np.round(found).astype(int).tolist())
        classes = values - {ignore}
        if max(classes, default=0) > 100 and not classes <= {0, 255}:
            raise SegprefError(
                f"{path} holds values up to {max(classes)}, which look like grey levels: set "
                "threshold for binary masks, names for classes, or ignore"
            )
    on_disk = tuple(sorted((values - {ignore}) | {0}))
    if on_disk in ((0,), (0, 1), (0, 255)):
        two = ("background", _ONE_STRUCTURE)
        return LabelSpace("multi-class", two, on_disk=on_disk if 255 in on_disk else ())
    names = ("background", *(f"class {value}" for value in on_disk[1:]))
    gaps = on_disk != tuple(range(len(on_disk)))
    return LabelSpace("multi-class", names, on_disk=on_disk if gaps else ())
