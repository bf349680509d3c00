"""Options and checks shared by the commands of studies."""

from __future__ import annotations

from pathlib import Path

from segpref.data.index import refuse_in_place
from segpref.targets import check_outputs

__all__ = ["Words", "as_words", "check_study"]

Words = list[str] | str | None
"""What ``--only`` takes: some words, several of them as a YAML list, or nothing."""


def check_study(out: Path, cache: Path | None, data: Path | None) -> None:
    """Refuse a study's folder, or a cache, that can't be written to, before anything is opened.

    Raises:
        SegprefError: something else is there, or where a file of it goes; or it is the data's folder.
    """
    refuse_in_place(out, data)
    tables = ("tables.md", "tables.csv", "tables.tex", "runs.csv", "scores.csv", "curves.csv")
    names = ("recipe.yaml", "split.json", *tables, "report.html")
    check_outputs(files=[out / name for name in names], folders=[out, out / "figures", cache])


def as_words(given: Words) -> list[str]:
    """What ``--only`` was given, as a list."""
    return [given] if isinstance(given, str) else list(given or ())
