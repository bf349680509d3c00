"""What a reader found in a folder, in one line: a wrong guess shows before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from segpref.data.other_formats import unread
from segpref.data.source import Reader
from segpref.data.volumes import has_image_name
from segpref.data.walk import Tree

__all__ = ["description", "name_of"]

_LAYOUTS = {
    "ACDC": "ACDC",
    "Decathlon": "Decathlon (dataset.json)",
    "Exports": "DICOM series with DICOM-SEG",
    "Folders": "images with masks",
    "JSRT": "JSRT radiographs",
    "LIDC": "LIDC crops",
    "LIDCScans": "LIDC scans",
    "NnUNetRaw": "nnU-Net raw (dataset.json)",
    "Packed": "packed dataset",
}
_SHOWN = 3
"""Names of files in a list; of the others the number."""


def description(reader: Reader, folder: Path) -> str:
    """One line: the layout, images, patients, labels, channels, structures, and what was left alone.

    Args:
        reader: what opened the folder.
        folder: it.
    """
    sources = reader.sources()
    labelled = sum(bool(source.labels) for source in sources)
    patients = len({source.patient for source in sources})
    whose = f"of {patients} patients" if reader.patients_known else "(each counts as a patient)"
    parts = [
        f"{_LAYOUTS.get(type(reader).__name__, type(reader).__name__)}",
        f"{len(sources)} images {whose}, {labelled} with labels",
        f"channels {', '.join(reader.channels)}",
    ]
    if reader.label_space is not None:
        parts.append(f"structures {', '.join(reader.label_space.structures)}")
    if aside := _left_alone(reader, folder):
        parts.append(f"left alone {aside}")
    return f"{folder}: {'; '.join(parts)}."


def name_of(reader: Reader) -> str:
    """What a message calls a dataset: the folder of its images, or what it is where there is none."""
    images = [source.images[0] for source in reader.sources() if source.images]
    # Of paths of both kinds there is no common one.
    folders = [str(path.parent.absolute()) for path in images]
    if folders:
        return os.path.commonpath(folders)
    return f"the dataset ({_LAYOUTS.get(type(reader).__name__, type(reader).__name__)})"


def _left_alone(reader: Reader, folder: Path) -> str:
    tree = Tree(folder)
    used = {file for source in reader.sources() for file in (*source.images, *source.labels)}
    images = [path for path in tree.files if has_image_name(path)]
    others = [path for path in images if path not in used]
    hidden = [path for path, why in tree.skipped.items() if why == "hidden"]
    again = [path for path, why in tree.skipped.items() if why != "hidden"]
    groups = {
        "hidden": hidden,
        "links to folders read already": again,
        "other images": others,
        "images in formats that are not read": [p for p in unread(tree.files) if p not in used],
    }
    found = [f"{what}: {_names(paths, folder)}" for what, paths in groups.items() if paths]
    return ", ".join(found)


def _names(paths: Iterable[Path], folder: Path) -> str:
    names = sorted(str(path.relative_to(folder)) for path in paths)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
