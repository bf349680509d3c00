"""Where the masks of images go, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from segpref.data.dicom import is_radiograph
from segpref.data.index import source_id
from segpref.data.itk_files import is_itk
from segpref.data.manifest import is_manifest
from segpref.data.packed_images import packed_ending
from segpref.data.source import Reader, Source
from segpref.data.volumes import file_stem, is_nifti, is_picture
from segpref.types import SegprefError

__all__ = ["check_output", "mask_name", "refuse_inputs"]

_LOSSY = (".jpg", ".jpeg", ".gif")


def check_output(output: Path, reader: Reader, images: Path) -> None:
    """Refuse a folder for masks that holds images, or can't be written to."""
    files = [path for source in reader.sources() for path in source.images]
    given = [] if is_manifest(images) else [images]
    folders = {path if path.is_dir() else path.parent for path in [*given, *files]}
    # Images may be links to files elsewhere.
    real = {Path(os.path.realpath(path)).parent for path in files if path.is_file()}
    if Path(os.path.realpath(output)) in {Path(os.path.realpath(one)) for one in folders} | real:
        raise SegprefError(
            f"{output} holds the images, which would be overwritten by masks or mixed with them: "
            "choose another output folder"
        )
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise SegprefError(
            f"{output} can't hold masks, because {there} is not a folder that you may write to: choose "
            "another output folder"
        )


def refuse_inputs(reader: Reader, masks: Iterable[Path]) -> None:
    """Refuse masks that would replace an image: of its name, a link to it, or what it is a link to."""
    # A link of the images may lead nowhere or in a circle: reading it says so.
    images = {
        (one.st_dev, one.st_ino)
        for source in reader.sources()
        for path in source.images
        if (one := _status(path)) is not None
    }
    for path in masks:
        found = _status(path)
        if found is not None and (found.st_dev, found.st_ino) in images:
            raise SegprefError(
                f"{path} is a link to an image, or the image itself, which its mask would "
                "overwrite: remove the link, or choose another output folder"
            )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, until Python 3.13
        return None


def mask_name(source: Source) -> str:
    """What the mask of an image is called: as its file, or by its id where it has one of its own."""
    path = source.images[0]
    if path.is_file() and (is_nifti(path) or is_picture(path)):
        stem = file_stem(path)
        ending = path.name[len(stem) :]
        stem = stem if source.id.endswith("_0000") else stem.removesuffix("_0000") or stem
        name = stem if source_id(stem) == source.id else source.id
        return name + (".png" if ending.lower() in _LOSSY else ending)
    if path.suffix == ".npz":
        return source.id + packed_ending(path)
    if is_itk(path):
        return source.id + ".nii.gz"
    radiograph = path.is_file() and is_radiograph(path)
    return source.id + (".png" if radiograph else ".nii.gz")
