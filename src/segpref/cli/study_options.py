"""Options and checks shared by the commands of studies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from segpref.data.index import refuse_in_place
from segpref.folder_kinds import refuse_other_kind
from segpref.studies.writing import STUDY_FILES
from segpref.targets import check_outputs

__all__ = ["Words", "as_words", "check_study"]

Words = list[str] | str | None
"""What ``--only`` takes: some words, several of them as a YAML list, or nothing."""


def check_study(
    out: Path, cache: Path | None, data: Path | None, files: Iterable[str] = STUDY_FILES
) -> None:
    """Refuse a study's folder, or a cache, that can't be written to, before anything is opened.

    Args:
        out: the study's folder.
        cache: where prepared images are kept, if somewhere else.
        data: the dataset's folder.
        files: names of all that the study writes into its folder.

    Raises:
        SegprefError: something else is there, or where a file of it goes; or it is the data's folder.
    """
    refuse_in_place(out, data)
    refuse_other_kind(out, "study")
    check_outputs(files=[out / name for name in files], folders=[out, out / "figures", cache])


def as_words(given: Words) -> list[str]:
    """What ``--only`` was given, as a list."""
    return [given] if isinstance(given, str) else list(given or ())
