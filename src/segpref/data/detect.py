"""Which layout a folder has."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segpref.data.acdc import ACDC
from segpref.data.decathlon import Decathlon
from segpref.data.disk import refuse_scarcity
from segpref.data.folders import Folders
from segpref.data.index import dataset_folder, image_files
from segpref.data.jsrt import JSRT, STRUCTURES
from segpref.data.lidc import LIDC
from segpref.data.lidc_scans import LIDCScans, holds_scans
from segpref.data.nnunet import NnUNetRaw
from segpref.data.packed import PACK_FILE, Packed
from segpref.data.source import Reader
from segpref.data.volumes import file_stem
from segpref.types import SegprefError

__all__ = ["open_dataset"]

_LAYOUTS = (
    "ACDC (patient001/patient001_frame01.nii.gz), JSRT (NAME.IMG with fold1/masks/heart/NAME.gif, or "
    "images/ with masks/heart/), LIDC crops (LIDC-IDRI-0001/nodule-0/images) or scans (*.xml in the "
    "folder of its DICOM series), Decathlon or nnU-Net raw (dataset.json), images/ with labels/ or "
    "masks/, NAME.png beside NAME_mask.png"
)


def open_dataset(root: Path | str, **options: Any) -> Reader:
    """Open a dataset with the reader of the layout that is there.

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
    opened: Reader = reader(folder, **options)
    return opened


def _reader(folder: Path, options: dict[str, Any]) -> Callable[..., Reader]:
    if (folder / PACK_FILE).is_file():
        return Packed
    if (folder / "dataset.json").is_file():
        return _json_reader(folder / "dataset.json")
    if any(folder.rglob("patient[0-9][0-9][0-9]_frame*.nii*")):
        return ACDC
    if any(folder.glob("*/nodule-*/images")):
        return LIDC
    if holds_scans(folder):
        return LIDCScans
    radiographs = any(path.suffix.upper() == ".IMG" for path in folder.rglob("*"))
    if radiographs or all(_has_structure(folder / "masks", name) for name in STRUCTURES):
        return JSRT
    if (folder / "images").is_dir() or "images" in options:
        return Folders
    if options.get("suffix"):
        return Folders
    if any(file_stem(path).endswith("_mask") for path in image_files(folder, recursive=True)):
        options["suffix"] = "_mask"
        return Folders
    raise SegprefError(f"{folder} has none of the layouts that are known: arrange it as {_LAYOUTS}")


def _has_structure(masks: Path, name: str) -> bool:
    return (masks / name).is_dir() or (masks / name.replace(" ", "_")).is_dir()


def _json_reader(path: Path) -> Callable[..., Reader]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        refuse_scarcity(path, error)
        raise SegprefError(f"{path} is not valid JSON ({error}): correct or restore it") from error
    keys = set(content) if isinstance(content, dict) else set()
    if {"channel_names", "file_ending"} <= keys:
        return NnUNetRaw
    if {"modality", "training"} <= keys:
        return Decathlon
    raise SegprefError(
        f'{path} is neither of nnU-Net ("channel_names", "file_ending") nor of the Decathlon '
        '("modality", "training"): add what is missing'
    )
