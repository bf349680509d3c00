"""A kind of bad input, and the sound dataset that most of them are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from written import grey, labels, nifti

from segpref.data import Folders

Action = Callable[[], Any]


@dataclass(frozen=True)
class Bad:
    """A kind of bad input: how it is made, the file and the mend that the message must name."""

    id: str
    make: Callable[[Path], Callable[[], Any]]
    names: str
    mend: str
    at: str = "read"


def paired(root: Path) -> Path:
    """A sound dataset of images/ and labels/."""
    nifti(root / "images" / "a.nii.gz", grey((5, 6, 4)))
    nifti(root / "labels" / "a.nii.gz", labels((5, 6, 4), 3))
    return root


def folders(root: Path, **options: Any) -> Callable[[], Any]:
    names = options.pop("names", ("background", "one", "two"))
    return lambda: Folders(root, names=names, **options)


def linked(path: Path, target: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    return path


def read_all(reader: Any) -> None:
    for source in reader.sources():
        reader.read(source)
