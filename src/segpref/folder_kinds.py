"""What a folder holds, told by the files in it: things of two kinds never share a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from segpref.types import SegprefError

__all__ = ["FolderKind", "kind_of", "refuse_other_kind"]

FolderKind = Literal["run", "study", "votes", "preferences", "pack", "model", "dataset"]

_KINDS: Mapping[FolderKind, tuple[str, tuple[str, ...]]] = {
    "run": ("a run of segpref fit or align", ("run.json",)),
    "study": ("a study of a recipe", ("recipe.yaml", "data.json")),
    "votes": ("a study in which people vote", ("study.json", "contents.json")),
    "preferences": ("exported preferences", ("about.json",)),
    "pack": ("a packed dataset", ("pack.json",)),
    "model": ("a trained model", ("plans.json", "configs/metadata.json")),
    "dataset": ("a dataset", ("dataset.json",)),
}
"""Of each kind its name in sentences, and files that only such a folder has."""


def kind_of(folder: Path) -> FolderKind | None:
    """What a folder holds; None where no file tells."""
    return next(
        (kind for kind, (_, marks) in _KINDS.items() if any((folder / m).is_file() for m in marks)),
        None,
    )


def refuse_other_kind(out: Path, own: FolderKind | None) -> None:
    """Refuse to write into a folder that holds something of another kind, before anything is computed.

    Args:
        out: the folder that is written, whether or not it is there.
        own: what is written; None for files of a command that has no folders of its own, such as a
            report.

    Raises:
        SegprefError: it holds something of another kind.
    """
    for kind, (words, marks) in _KINDS.items():
        found = next((name for name in marks if (out / name).is_file()), None)
        if kind != own and found is not None:
            raise SegprefError(
                f"{out} holds {words} ({found}), which would be mixed with what is written: choose "
                "another --out"
            )
