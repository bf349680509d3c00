"""nnU-Net's raw format, version 2 (Isensee et al., Nature Methods 2021)."""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpref.checking import checked
from segpref.data.cases import multilabel_space, read_class_case
from segpref.data.index import (
    as_written,
    dataset_folder,
    index,
    load_description,
    numbered_names,
    patient_of,
    required,
    source_id,
)
from segpref.data.source import Source
from segpref.data.volumes import is_nifti
from segpref.data.walk import entries
from segpref.trust import read_json
from segpref.types import IGNORE, Case, LabelSpace, Region, SegprefError

__all__ = ["NnUNetRaw", "label_space_of"]


@checked()
class NnUNetRaw:
    """``dataset.json``, ``imagesTr/NAME_0000.nii.gz``, ``labelsTr/NAME.nii.gz``, ``imagesTs/``.

    ``labels`` may name single values and, with ``regions_class_order``, lists of values: such regions
    become :attr:`LabelSpace.regions` over a label map that stays exclusive, in the order in which
    they are declared. The label named ``ignore`` becomes :data:`IGNORE`. A picture with several
    colours may hold all channels in its ``_0000`` file. Images without labels are part of the
    dataset; labels without images are an error.

    The voxel size of a TIFF stack is that of ``NAME.json`` beside it, in mm:
    ``{"spacing": [page, row, column]}``. Where images and labels both have one they must agree.

    Where ``dataset`` names the files of each training case,
    ``{"NAME": {"images": [...], "label": ...}}``, these take the place of ``imagesTr`` and
    ``labelsTr``; relative paths begin at ``dataset.json``, and environment variables are filled in, as
    nnU-Net does.

    Args:
        root: folder that holds dataset.json, such as ``nnUNet_raw/Dataset004_Hippocampus``.
        as_multilabel: read the foreground classes, or the regions, as independent structures.
        patient_pattern: regular expression with one group that finds the patient in a case's name;
            without it nothing links cases to patients and each case counts as one.
    """

    def __init__(
        self, root: Path | str, as_multilabel: bool = False, patient_pattern: str | None = None
    ) -> None:
        folder = dataset_folder(root, "dataset.json")
        path = folder / "dataset.json"
        content = load_description(path, ("channel_names", "labels", "file_ending"))
        self._values, self._space = label_space_of(path, content["labels"])
        self.as_multilabel = as_multilabel
        self.label_space = multilabel_space(self._space) if as_multilabel else self._space
        self.channels = numbered_names(path, "channel_names", content["channel_names"])
        self.patients_known = patient_pattern is not None
        ending = _ending(path, content["file_ending"])
        channels, named = len(self.channels), content.get("dataset")
        places = {"imagesTr": "labelsTr"} if named is None else {}
        sources = _sources(
            folder, places | {"imagesTs": "labelsTs"}, ending, channels, patient_pattern
        )
        if named is not None:
            sources += _listed(path, named, channels, patient_pattern)
        self._sources = index(folder, sources, f"imagesTr/NAME_0000{ending}")

    def sources(self) -> Sequence[Source]:
        """One source per case of imagesTr and imagesTs."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The case with its channels in their order."""
        case = read_class_case(source, self.channels, self._values, self._space, self.as_multilabel)
        if source.key is None:
            return case
        spacing = tuple(json.loads(source.key))
        if len(spacing) != case.image.ndim - 1:
            raise SegprefError(
                f"{source.images[0]} has {case.image.ndim - 1} axes, but the JSON file beside it "
                f"states {len(spacing)} voxel sizes: state one per axis"
            )
        return replace(case, spacing_mm=spacing)


def label_space_of(path: Path, labels: Any) -> tuple[dict[int, int], LabelSpace]:
    """Class, or IGNORE, of every value on disk, and the classes with their regions."""
    try:
        groups = {
            str(name): tuple(int(v) for v in value) if isinstance(value, list) else (int(value),)
            for name, value in labels.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise SegprefError(
            f'{path} has "labels" that are neither integers nor lists of integers: write them as '
            '{"background": 0, "NAME": 1, "REGION": [1, 2]}'
        ) from error
    ignore = groups.pop("ignore", None)
    values = sorted({value for group in groups.values() for value in group})
    if groups.get("background") != (0,) or values != list(range(len(values))) or len(values) > 255:
        raise SegprefError(
            f'{path} has "labels" with the values {values}: number them 0, 1, 2, ... and name 0 '
            "'background'"
        )
    if ignore and ignore[0] in values:
        raise SegprefError(
            f'{path} has "labels" in which {ignore[0]} is a class and "ignore": give one of them '
            "another value"
        )
    regions: tuple[Region, ...] = ()
    if any(isinstance(value, list) for name, value in labels.items() if name != "ignore"):
        regions = tuple(Region(name, group) for name, group in groups.items() if group != (0,))
    single = {group[0]: name for name, group in reversed(groups.items()) if len(group) == 1}
    names = tuple(single.get(value, f"class {value}") for value in values)
    space = LabelSpace("multi-class", names, regions)
    return {v: v for v in values} | ({ignore[0]: IGNORE} if ignore else {}), space


def _ending(path: Path, ending: Any) -> str:
    """It becomes part of names and of patterns of names."""
    if not isinstance(ending, str) or not re.fullmatch(r"(\.\w+)+", ending):
        raise SegprefError(
            f'{path} has the "file_ending" {ending!r:.80}, which ends no file name: write it like '
            '".nii.gz" or ".png"'
        )
    return ending


def _sources(
    folder: Path, places: Mapping[str, str], ending: str, channels: int, pattern: str | None
) -> list[Source]:
    """What lies in folders of images, by the names of the folders with their labels."""
    first = f"_0000{ending}"
    sources = []
    for images, labels in places.items():
        names = _named(folder / images, first)
        label_of = _named(folder / labels, ending)
        for name in sorted(set(label_of) - set(names)):
            raise SegprefError(
                f"{label_of[name]} has no image {images}/{name}{first}: restore it or remove the labels"
            )
        for name, path in sorted(names.items()):
            own = path.name.removesuffix(first)
            sources.append(
                Source(
                    id=source_id(name),
                    patient=patient_of(name, pattern),
                    images=_channel_files(folder / images, own, ending, channels),
                    labels=(label_of[name],) if name in label_of else (),
                    key=_spacing_beside(path, label_of.get(name)),
                )
            )
    return sources


def _listed(path: Path, cases: Any, channels: int, pattern: str | None) -> list[Source]:
    """The cases that dataset.json names file by file."""
    sources = []
    for name, files in cases.items() if isinstance(cases, dict) else [("", None)]:
        images = files.get("images") if isinstance(files, dict) else None
        label = files.get("label") if isinstance(files, dict) else None
        several = isinstance(images, list) and all(isinstance(one, str) for one in images)
        if not (several and images and isinstance(label, str | None)):
            raise SegprefError(
                f'{path} has the "dataset" entry {name!r:.80} without a list of "images" and a '
                '"label": write {"NAME": {"images": ["PATH_0000.nii.gz"], "label": "PATH.nii.gz"}}'
            )
        found = tuple(_place(path, one, name) for one in images)
        if len(found) != channels and (len(found) > 1 or is_nifti(found[0])):
            raise SegprefError(
                f'{path} names {len(found)} images of {name!r:.80} in "dataset" and {channels} '
                "channels: name one image per channel"
            )
        sources.append(
            Source(
                id=source_id(name),
                patient=patient_of(name, pattern),
                images=found,
                labels=() if label is None else (_place(path, label, name),),
                key=_spacing_beside(found[0], None if label is None else _place(path, label, name)),
            )
        )
    return sources


def _place(path: Path, written: str, name: str) -> Path:
    place = Path(os.path.normpath(path.parent / os.path.expandvars(written)))
    return required(place, f'{path} names it in the "dataset" entry {name!r:.80}', "correct that")


def _spacing_beside(image: Path, label: Path | None) -> str | None:
    """What JSON files beside a TIFF stack and its labels say of its voxel size; None without any."""
    stated: dict[str, Path] = {}
    for file, stem in ((image, image.stem.removesuffix("_0000")), (label, label and label.stem)):
        if file is None or file.suffix.lower() not in (".tif", ".tiff"):
            continue
        beside = file.with_name(f"{stem}.json")
        if not beside.is_file():
            continue
        content = read_json(beside, "correct or remove it")
        sizes = content.get("spacing") if isinstance(content, dict) else None
        if not isinstance(sizes, list) or not all(map(_is_size, sizes)):
            raise SegprefError(
                f'{beside} states no voxel size: write {{"spacing": [1.5, 0.8, 0.8]}} in mm, in the '
                "order of page, row and column, or remove it"
            )
        stated[json.dumps([float(size) for size in sizes])] = beside
    if len(stated) > 1:
        one, other = stated.values()
        raise SegprefError(f"{one} and {other} state other voxel sizes: correct one of them")
    return next(iter(stated), None)


def _is_size(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _named(folder: Path, ending: str) -> dict[str, Path]:
    """Files by what stands before the ending, with accents written in one way."""
    found: dict[str, Path] = {}
    for path in entries(folder) if folder.is_dir() else ():
        if path.name.endswith(ending) and path.name != ending:
            name = unicodedata.normalize("NFC", path.name.removesuffix(ending))
            if name in found:
                raise SegprefError(f"{path} and {found[name]} are one case: remove one of them")
            found[name] = path
    return found


def _channel_files(folder: Path, name: str, ending: str, channels: int) -> tuple[Path, ...]:
    named = (folder / f"{name}_{number:04d}{ending}" for number in range(channels))
    files = tuple(map(as_written, named))
    if not is_nifti(files[0]) and not any(path.is_file() for path in files[1:]):
        return files[:1]
    for path in files:
        required(
            path, f"dataset.json names {channels} channels", "export that channel or correct it"
        )
    return files
