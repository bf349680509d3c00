"""Which data a study was begun with: its tables are of one dataset, read in one way."""

from __future__ import annotations

import json
from pathlib import Path

from segpref.data.cache import write_atomically
from segpref.data.dataset import Dataset
from segpref.data.relabelled import Relabelled
from segpref.data.source import Reader
from segpref.trust import read_json
from segpref.types import SegprefError

__all__ = ["has_data", "keep_data"]

_FILE = "data.json"


def has_data(out: Path) -> bool:
    """Whether a study was begun in this folder."""
    return (out / _FILE).exists()


def keep_data(out: Path, reader: Reader, *datasets: Dataset | None) -> None:
    """Write down which images and labels a study sees, or refuse others than it was begun with.

    Args:
        out: the study's folder.
        reader: of the dataset.
        datasets: all prepared images, where there are any.

    Raises:
        SegprefError: files, structures or the meaning of label values are not those of the beginning.
    """
    space, path = reader.label_space, out / _FILE
    now = {
        "images and labels": [None if one is None else one.digest() for one in datasets],
        "structures": None if space is None else [space.kind, *space.names],
        "labels": reader.key if isinstance(reader, Relabelled) else None,
    }
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(now, indent=1).encode())
        return
    before = read_json(path, "restore it, or write the study into a new folder")
    known = before if isinstance(before, dict) else {}
    if changed := [name for name, value in now.items() if known.get(name) != value]:
        raise SegprefError(
            f"{out} was begun with other data ({', '.join(changed)}): restore the files and the "
            "options as they were, or choose another --out"
        )
