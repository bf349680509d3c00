"""Masks on disk of a dataset's images, made by another program or person."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from segpref.checking import checked
from segpref.data.cache import Cache
from segpref.data.cases import read_binary, read_classes
from segpref.data.dataset import Array, Dataset, Volume, part_of
from segpref.data.dicom_images import series_of
from segpref.data.index import image_files, source_id
from segpref.data.preparation import Preparation
from segpref.data.prepared import ImagePreparation
from segpref.data.segmentation_headers import segmentations_in
from segpref.data.segmentations import read_structures
from segpref.data.series_rule import ANY_SERIES, SeriesRule
from segpref.data.source import Reader, Source
from segpref.data.volumes import VolumeFile as Grid
from segpref.data.volumes import file_stem
from segpref.progress import console, track
from segpref.types import IGNORE, Case, LabelSpace, SegprefError

__all__ = ["MaskFolder", "mask_paths"]

_FIRST = "_0000"

_Identity: TypeAlias = tuple[tuple[Path, ...], str | None]


def mask_paths(path: Path | str, label_space: LabelSpace) -> tuple[Path, ...]:
    """The files of a mask: ``path`` itself, or ``NAME_STRUCTURE.ext`` per structure.

    Signs of a structure's name that don't belong into file names become ``_``.

    Raises:
        SegprefError: two structures would share a file.
    """
    path = Path(path)
    if label_space.kind == "multi-class":
        return (path,)
    stem, ending = file_stem(path), path.name[len(file_stem(path)) :]
    names = [re.sub(r"[^\w.-]+|_+", "_", name) for name in label_space.names]
    for number, name in enumerate(names):
        if name in names[:number]:
            first, second = label_space.names[names.index(name)], label_space.names[number]
            raise SegprefError(
                f"masks of the structures {first!r} and {second!r} would share the file "
                f"{stem}_{name}{ending}: rename one of them in the dataset and train the model again"
            )
    return tuple(path.with_name(f"{stem}_{name}{ending}") for name in names)


@checked()
class MaskFolder:
    """Masks of a folder, brought onto the grid of prepared images as their labels would be.

    They are named as ``segpref predict`` and ``nnUNetv2_predict`` name them: ``NAME.ext`` where the
    structures exclude each other, with the values that the classes have on disk, otherwise
    ``NAME_STRUCTURE.ext`` with 0 and 1 (or 255). ``NAME`` is the id of the image or, where
    no other image shares it, the name of its file. Image and mask must lie on the same voxels. Of DICOM
    series a mask may be one DICOM-SEG for all structures, ``NAME.dcm``.

    Args:
        folder: of the masks.
        readers: of all images that may be asked about.
        label_space: what the masks mean.
        preparation: from image to network input.
        cache: where prepared masks are kept.
        series: which series of a folder that a table names is its image.

    Raises:
        SegprefError: no mask of any of the images is there, or two are of one image.
    """

    def __init__(
        self,
        folder: Path | str,
        readers: Sequence[Reader],
        label_space: LabelSpace,
        preparation: ImagePreparation,
        cache: Cache | None = None,
        series: SeriesRule = ANY_SERIES,
    ) -> None:
        self.folder = Path(folder).expanduser()
        self.label_space = label_space
        self._preparation, self._cache, self._rule = preparation, cache or Cache(), series
        there = _by_name([*image_files(self.folder), *segmentations_in(self.folder)])
        self._files: dict[_Identity, tuple[Reader, tuple[Path | None, ...]]] = {}
        for reader in readers:
            stems = Counter(file_stem(source.images[0]) for source in reader.sources())
            for source in reader.sources():
                stem = file_stem(source.images[0])
                # The scan of several nodules, or the first slice of each, is no name of any of them.
                names = [
                    source.id,
                    *([stem, stem.removesuffix(_FIRST)] if stems[stem] == 1 else []),
                ]
                if found := _files_of(names, there, label_space):
                    self._files[_identity(source)] = reader, found
        if not self._files:
            some = readers[0].sources()[0].id
            due = ", ".join(path.name for path in mask_paths(f"{some}.nii.gz", label_space))
            raise SegprefError(
                f"{self.folder} holds no mask of any image: name them as the images, such as {due}"
            )
        self._arrays: dict[str, Array | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads what was prepared; it needs no reader of the images.
        return {**vars(self), "_files": {}}

    def digest(self) -> str:
        """Name of the content of all masks that are of an image."""
        files = [one for _, found in self._files.values() for one in found if one is not None]
        return self._cache.digest_of_files(sorted(files))

    def missing(self, dataset: Dataset) -> list[str]:
        """Volumes of the dataset that have no mask."""
        volumes = [volume for volume, _ in dataset.by_volume()]
        return [one.source.id for one in volumes if _identity(one.source) not in self._files]

    def require(self, dataset: Dataset, otherwise: str) -> None:
        """See to it that there are masks of some of the images, and say of how many there are none.

        Args:
            dataset: of the images.
            otherwise: what that means for those without.

        Raises:
            SegprefError: there is a mask of none of them.
        """
        missing, count = self.missing(dataset), len(dataset.by_volume())
        if len(missing) == count:
            raise SegprefError(
                f"{self.folder} holds masks, but of none of the {count} images that are asked "
                f"about, such as {missing[0]}: add theirs, or give other images"
            )
        if missing:
            console.print(
                f"{self.folder} has no mask of {len(missing)} of {count} images, such as "
                f"{missing[0]}: {otherwise}."
            )

    def prepare(self, dataset: Dataset) -> None:
        """Read and prepare the masks of all volumes of the dataset, once."""
        volumes = [volume for volume, _ in dataset.by_volume()]
        for volume in track(volumes, "preparing masks", len(volumes)):
            self._arrays[volume.source.id] = self._prepared(volume)

    def __getitem__(self, case: Case) -> UInt8[np.ndarray, "field *space"] | None:
        """The mask of a case of a dataset that was prepared, or None.

        Of a patch it is the patch's, :data:`~segpref.types.IGNORE` beyond the image. A structure
        without a file is ``IGNORE`` everywhere.
        """
        array = self._arrays[case.volume]
        return None if array is None else part_of(array, case, IGNORE)

    def _prepared(self, volume: Volume) -> Array | None:
        if _identity(volume.source) not in self._files:
            return None
        reader, files = self._files[_identity(volume.source)]
        present = [path for path in files if path is not None]
        key = {
            "what": "prepared masks",
            "input": volume.key,
            "structures": [path is not None for path in files],
            "content": self._cache.digest_of_files(present),
        }
        compute = partial(self._compute, volume.source, volume.turned, reader, files)
        return self._cache.entry(key, compute)["masks"]

    def case(self, source: Source) -> Case | None:
        """The whole image as it is on disk, with the mask as its label; None where there is no mask."""
        if (identity := _identity(source)) not in self._files:
            return None
        return self._read(source, *self._files[identity])

    def _read(self, source: Source, reader: Reader, files: Sequence[Path | None]) -> Case:
        case = reader.read(source)
        image = Grid(case.image, case.affine, case.spacing_mm, case.oriented)
        path = source.images[0]
        first = files[0]
        if first is not None and first.suffix == ".dcm":
            series = series_of(source, self._rule)
            label = read_structures(first, image, series, self.label_space)
        elif self.label_space.kind == "multi-class":
            (file,) = files
            assert file is not None
            label = read_classes(file, image, path, self.label_space)
        else:
            unknown = np.full(case.image.shape[1:], IGNORE, np.uint8)
            fields = [unknown if one is None else read_binary(one, image, path) for one in files]
            label = np.stack(fields)
        return replace(case, label=label)

    def _compute(
        self, source: Source, turned: str | None, reader: Reader, files: Sequence[Path | None]
    ) -> dict[str, np.ndarray]:
        preparation = self._preparation
        if turned is not None:
            assert isinstance(preparation, Preparation)
            preparation = replace(preparation, orientation=turned)
        masks = preparation.apply(self._read(source, reader, files)).labels
        assert masks is not None
        return {"masks": masks}


def _identity(source: Source) -> _Identity:
    """What a source is, whatever its reader calls it."""
    return source.images, source.key


def _by_name(files: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        name = source_id(file_stem(path))
        if name in found:
            raise SegprefError(
                f"{path} and {found[name].name} are masks of one image: remove one of them"
            )
        found[name] = path
    return found


def _files_of(
    names: Iterable[str], there: Mapping[str, Path], label_space: LabelSpace
) -> tuple[Path | None, ...]:
    """One file per field, None where there is none; nothing where there is no file at all."""
    for name in dict.fromkeys(names):
        if (whole := there.get(name)) is not None and whole.suffix == ".dcm":
            return (whole,)
        due = [source_id(file_stem(path)) for path in mask_paths(f"{name}.png", label_space)]
        if any(one in there for one in due):
            return tuple(there.get(one) for one in due)
    return ()
