"""Detects the layout of a dataset folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segpref.checking import check_arguments
from segpref.data.acdc import ACDC
from segpref.data.decathlon import Decathlon
from segpref.data.description import description
from segpref.data.exports import Exports, holds_segmentations
from segpref.data.folders import Folders
from segpref.data.index import dataset_folder, image_files
from segpref.data.jsrt import JSRT, STRUCTURES
from segpref.data.lidc import LIDC, nodule_folders
from segpref.data.lidc_scans import LIDCScans, holds_scans
from segpref.data.nnunet import NnUNetRaw
from segpref.data.packed import PACK_FILE, Packed
from segpref.data.pairing import folder_of, suffix_beside
from segpref.data.source import Reader
from segpref.data.walk import Tree
from segpref.progress import console
from segpref.trust import read_json
from segpref.types import SegprefError

__all__ = ["open_dataset"]

_LAYOUTS = (
    "ACDC (patient001/patient001_frame01.nii.gz), JSRT (NAME.IMG with fold1/masks/heart/NAME.gif, or "
    "images/ with masks/heart/), LIDC crops (LIDC-IDRI-0001/nodule-0/images) or scans (*.xml in the "
    "folder of its DICOM series), DICOM series with DICOM-SEG, Decathlon or nnU-Net raw "
    "(dataset.json), images/ with labels/ or masks/, NAME.png beside NAME_mask.png or "
    "NAME_segmentation.png"
)


def open_dataset(root: Path | str, **options: Any) -> Reader:
    """Open a dataset with the reader of the layout that is there, and print once what was found.

    Args:
        root: folder of the dataset.
        options: passed on to the reader, such as ``as_multilabel`` or ``patient_pattern``; one that
            the layout does not know is an error.

    Raises:
        SegprefError: no layout is recognised; the message lists those that are known.
    """
    folder = dataset_folder(root, "a dataset")
    reader = _reader(folder, options)
    known = inspect.signature(reader).parameters
    for name in options:
        if name not in known:
            raise SegprefError(
                f"{folder} is read by {reader.__name__}, which has no option {name!r}: drop it, or "
                f"choose from {', '.join(list(known)[1:]) or 'none'}"
            )
    check_arguments(reader.__name__, reader, (folder,), options)
    opened: Reader = reader(folder, **options)
    _print_once(description(opened, folder))
    return opened


_printed: set[str] = set()


def _print_once(line: str) -> None:
    if line not in _printed:
        _printed.add(line)
        console.print(line, soft_wrap=True)


def _reader(folder: Path, options: dict[str, Any]) -> Callable[..., Reader]:
    if (folder / PACK_FILE).is_file():
        return Packed
    if (folder / "dataset.json").is_file():
        return _json_reader(folder / "dataset.json")
    tree = Tree(folder)
    if any(tree.named("patient[0-9][0-9][0-9]_frame*.nii*")):
        return ACDC
    if any((nodule / "images").is_dir() for nodule in nodule_folders(folder)):
        return LIDC
    if holds_scans(folder):
        return LIDCScans
    radiographs = any(path.suffix.upper() == ".IMG" for path in tree.files)
    if radiographs or all(_has_structure(folder / "masks", name) for name in STRUCTURES):
        return JSRT
    if holds_segmentations(tree, options.get("labels")):
        return Exports
    if folder_of(folder, ("images",)) or "images" in options or options.get("suffix"):
        return Folders
    if suffix := suffix_beside(image_files(folder, recursive=True)):
        options["suffix"] = suffix
        return Folders
    raise SegprefError(f"{folder} has none of the known layouts: arrange it as {_LAYOUTS}")


def _has_structure(masks: Path, name: str) -> bool:
    return (masks / name).is_dir() or (masks / name.replace(" ", "_")).is_dir()


def _json_reader(path: Path) -> Callable[..., Reader]:
    content = read_json(path, "correct or restore it")
    keys = set(content) if isinstance(content, dict) else set()
    if {"channel_names", "file_ending"} <= keys:
        return NnUNetRaw
    if {"modality", "training"} <= keys:
        return Decathlon
    raise SegprefError(
        f'{path} is neither of nnU-Net ("channel_names", "file_ending") nor of the Decathlon '
        '("modality", "training"): add what is missing'
    )
