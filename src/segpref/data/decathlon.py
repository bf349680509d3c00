"""Medical Segmentation Decathlon (Antonelli et al., Nature Communications 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from segpref.data.names import inside
from segpref.data.source import Source
from segpref.data.volumes import file_stem
from segpref.types import LARGEST_ON_DISK, Case, LabelSpace, SegprefError

__all__ = ["Decathlon"]


@checked()
class Decathlon:
    """A task of the Decathlon: ``dataset.json``, ``imagesTr/``, ``labelsTr/``, ``imagesTs/``.

    Several modalities lie along the fourth axis of one file, or in files ``NAME_0000``, ``NAME_0001``
    and so on for an entry ``NAME``, as the first nnU-Net had them; an entry may list such files. Label
    values that leave gaps are renumbered in memory; masks that are written have the values of the
    labels. The images under ``test`` are part of the
    dataset, without labels.

    Args:
        root: folder that holds dataset.json.
        as_multilabel: read the foreground classes as independent structures.
        patient_pattern: regular expression with one group that finds the patient in a file's stem;
            without it nothing links volumes to patients and each volume counts as one.
    """

    def __init__(
        self, root: Path | str, as_multilabel: bool = False, patient_pattern: str | None = None
    ) -> None:
        folder = dataset_folder(root, "dataset.json")
        path = folder / "dataset.json"
        content = load_description(path, ("modality", "labels", "training"))
        self._values, self._space = _label_space(path, content["labels"])
        self.as_multilabel = as_multilabel
        self.label_space = multilabel_space(self._space) if as_multilabel else self._space
        self.channels = numbered_names(path, "modality", content["modality"])
        self.patients_known = patient_pattern is not None
        entries = [
            entry for part in ("training", "test") for entry in _entries(path, content, part)
        ]
        sources = [_source(folder, entry, patient_pattern, len(self.channels)) for entry in entries]
        self._sources = index(folder, sources, "volume listed in dataset.json")

    def sources(self) -> Sequence[Source]:
        """One source per entry of ``training`` and ``test``."""
        return self._sources

    def read(self, source: Source) -> Case:
        """The volume, axes (x, y, z)."""
        return read_class_case(source, self.channels, self._values, self._space, self.as_multilabel)


def _label_space(path: Path, labels: Any) -> tuple[dict[int, int], LabelSpace]:
    """Class of every value on disk, and the classes in the order of the values."""
    try:
        names = {int(value): name for value, name in labels.items()}
        if len(names) != len(labels) or not all(isinstance(name, str) for name in names.values()):
            raise ValueError("two names of one value, or a name that is no text")
    except (AttributeError, ValueError) as error:
        raise SegprefError(
            f'{path} has "labels" that do not name integers: write them as '
            '{"0": "background", "1": "NAME"}'
        ) from error
    ordered = sorted(names)
    if not ordered or ordered[0] != 0 or len(ordered) > 255 or ordered[-1] > LARGEST_ON_DISK:
        raise SegprefError(
            f'{path} has "labels" without a background "0", or too many or too large ones: correct them'
        )
    gaps = ordered != list(range(len(ordered)))
    try:
        classes = tuple(names[value] for value in ordered)
        space = LabelSpace("multi-class", classes, on_disk=tuple(ordered) if gaps else ())
    except SegprefError as error:
        raise SegprefError(
            f'{path} has unusable "labels" ({error}): give distinct names'
        ) from error
    return {value: number for number, value in enumerate(ordered)}, space


def _entries(path: Path, content: Mapping[str, Any], part: str) -> list[Any]:
    entries = content.get(part, [])
    if not isinstance(entries, list):
        raise SegprefError(f'{path} has a "{part}" that is not a list of images: correct it')
    return entries


def _source(folder: Path, entry: Any, pattern: str | None, channels: int) -> Source:
    index_file = folder / "dataset.json"
    files = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(files, dict) or not files.get("image"):
        raise SegprefError(
            f'{index_file} has the entry {entry!r:.80} without an "image": correct it'
        )
    told = files.get("label")
    images = _images(folder, files["image"], index_file, channels)
    label = required(inside(folder, told, index_file), f"{index_file} lists it") if told else None
    listed = files["image"]
    first = file_stem(inside(folder, listed[0] if isinstance(listed, list) else listed, index_file))
    name = first.removesuffix("_0000") if len(images) > 1 else first
    return Source(
        id=source_id(name),
        patient=patient_of(name, pattern),
        images=images,
        labels=(label,) if label else (),
    )


def _images(folder: Path, listed: Any, index_file: Path, channels: int) -> tuple[Path, ...]:
    """The file of all channels, or a file for each: as listed, or as nnU-Net named them at first."""
    if isinstance(listed, list):
        if len(listed) != channels:
            raise SegprefError(
                f'{index_file} lists {len(listed)} files under an "image" of {channels} channels: list '
                "one file for all, or one for each"
            )
        files = [inside(folder, one, index_file) for one in listed]
    else:
        whole = as_written(inside(folder, listed, index_file))
        ending = whole.name.removeprefix(file_stem(whole))
        numbered = [
            whole.with_name(f"{file_stem(whole)}_{number:04d}{ending}")
            for number in range(channels)
        ]
        files = [whole] if whole.exists() or not as_written(numbered[0]).exists() else numbered
    return tuple(required(path, f"{index_file} lists it") for path in files)
