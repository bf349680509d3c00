"""JSRT chest radiographs with the SCR contours (Shiraishi et al. 2000; van Ginneken et al. 2006)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from segpref.checking import checked
from segpref.data.cases import make_case, read_binary, read_image
from segpref.data.index import dataset_folder, index, source_id
from segpref.data.source import Source
from segpref.data.volumes import VolumeFile, file_stem, is_picture, read_volume
from segpref.data.walk import Tree, entries
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["JSRT"]

STRUCTURES = ("left clavicle", "right clavicle", "left lung", "right lung", "heart")
_FOLDS = ("fold1", "fold2")
_SIDE = 2048
_WHITE = 4095
_PIXEL_MM = 0.175


@checked()
class JSRT:
    """JSRT as distributed, or as PNG exports; five structures that overlap.

    As distributed: headerless ``NAME.IMG`` (2048 x 2048 big-endian 16-bit, 12 bits used, high means
    dark) anywhere below the folder, and one GIF of 1024 x 1024 per structure in
    ``fold1|fold2/masks/STRUCTURE/NAME.gif``. Values v become 4095 - v, so that high is bright.

    As exports: ``images/NAME.png`` (any picture format) and ``masks/STRUCTURE/NAME.png``; values stay.

    The image keeps its own grid. A mask that is smaller by a whole factor (2 as distributed) is
    enlarged by repeating pixels, which loses nothing; any other size is an error. A pixel is 0.175 mm
    at 2048 and whole multiples of it at 1024, 512 and 256; other sizes are taken as crops without a
    known pixel size. An image without any mask is unlabelled; one that lacks only some is an error.

    Args:
        root: folder of the dataset.
    """

    channels: tuple[str, ...] = ("x-ray",)
    patients_known: bool = True
    label_space: LabelSpace = LabelSpace("multi-label", STRUCTURES)

    def __init__(self, root: Path | str) -> None:
        folder = dataset_folder(root, "the .IMG files and fold1/, fold2/, or images/ and masks/")
        images = [path for path in Tree(folder).files if path.suffix.upper() == ".IMG"]
        if not images and (folder / "images").is_dir():
            images = [path for path in entries(folder / "images") if is_picture(path)]
        masks = _masks(folder)
        sources = [_source(path, masks) for path in sorted(images)]
        self._sources = index(folder, sources, "NAME.IMG or images/NAME.png")
        orphans = set(masks) - {file_stem(path).lower() for path in images}
        for stem in sorted(orphans):
            orphan = next(iter(masks[stem].values()))
            raise SegprefError(f"{orphan} has no image: restore the image or remove the masks")

    def sources(self) -> Sequence[Source]:
        """One source per radiograph, such as ``JPCLN001``; each is of another patient."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The radiograph, axes (row, column), and its five masks in the order of the structures."""
        path = source.images[0]
        if path.suffix.upper() == ".IMG":
            image = _read_img(path)
        else:
            image = read_image(source, self.channels, colour=False)
        spacing = _pixel_size(image.array.shape[1:])
        image = image._replace(spacing_mm=spacing)
        if not source.labels:
            return make_case(source, image, None)
        fields = [_read_mask(mask, image, path) for mask in source.labels]
        return make_case(source, image, np.stack(fields))


def _masks(folder: Path) -> dict[str, dict[str, Path]]:
    """Masks by lower-case image name and structure."""
    folders = [
        folder / "masks",
        *(one / "masks" for one in Tree(folder).folders if one.name in _FOLDS),
    ]
    found: dict[str, dict[str, Path]] = {}
    for structure, path in _mask_files(folders):
        files = found.setdefault(file_stem(path).lower(), {})
        if structure in files:
            raise SegprefError(
                f"{path} and {files[structure]} are masks of one structure: remove one of them"
            )
        files[structure] = path
    return found


def _mask_files(folders: Iterable[Path]) -> Iterable[tuple[str, Path]]:
    for folder in folders:
        for structure in STRUCTURES:
            place = folder / structure
            if not place.is_dir():
                place = folder / structure.replace(" ", "_")
            if place.is_dir():
                yield from ((structure, path) for path in entries(place) if is_picture(path))


def _source(image: Path, masks: dict[str, dict[str, Path]]) -> Source:
    own = masks.get(file_stem(image).lower(), {})
    missing = [structure for structure in STRUCTURES if structure not in own]
    if own and missing:
        raise SegprefError(
            f"{image} lacks the mask of the {' and the '.join(missing)}: restore it, or remove the "
            "image's other masks"
        )
    name = source_id(file_stem(image))
    stratum = {"JPCLN": "nodule", "JPCNN": "no nodule"}.get(name[:5].upper())
    labels = tuple(own[structure] for structure in STRUCTURES) if own else ()
    return Source(id=name, patient=name, images=(image,), labels=labels, stratum=stratum)


def _read_img(path: Path) -> VolumeFile:
    due = _SIDE * _SIDE * 2
    if not path.is_file():
        raise SegprefError(f"{path} does not exist: restore the file")
    if path.stat().st_size != due:
        raise SegprefError(
            f"{path} has {path.stat().st_size} bytes where 2048 x 2048 16-bit pixels take {due}: "
            "download it again"
        )
    raw = np.fromfile(path, dtype=">u2").reshape(1, _SIDE, _SIDE)
    if raw.max() > _WHITE:
        raise SegprefError(
            f"{path} holds the value {raw.max()}, above the 12 bits of JSRT: restore the original "
            "big-endian file"
        )
    return VolumeFile((_WHITE - raw).astype(np.float32), None, None)


def _pixel_size(shape: Sequence[int]) -> tuple[float, float] | None:
    rows, columns = shape
    if rows != columns or rows not in (256, 512, 1024, 2048):
        return None
    return (_PIXEL_MM * _SIDE / rows,) * 2


def _read_mask(path: Path, image: VolumeFile, image_path: Path) -> UInt8[np.ndarray, "row column"]:
    mask = read_volume(path, "mask")
    rows, columns = mask.array.shape[1:]
    height, width = image.array.shape[1:]
    factor = height // rows
    if factor < 1 or (rows * factor, columns * factor) != (height, width):
        raise SegprefError(
            f"{path} has {rows} x {columns} pixels, no whole fraction of the {height} x {width} of its "
            f"image {image_path.name}: export both at one size"
        )
    small = read_binary(path, VolumeFile(mask.array, None, None), image_path)
    return small.repeat(factor, axis=0).repeat(factor, axis=1)
