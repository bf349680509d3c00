"""A row per structure, for good means hide the structure that is being lost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segpref.report.page import Section, Table
from segpref.training.folder import RunFolder
from segpref.trust import read_json

__all__ = ["structure_sections"]


def structure_sections(
    folder: RunFolder, audited: Mapping[str, Any] | None = None
) -> list[Section]:
    """What a run did to each structure, and what its judge is worth there where that was measured.

    Args:
        folder: of the run.
        audited: figures of an audit; those that the folder keeps where None.
    """
    scores = _read(folder.verdict)
    audited = _read(folder.audit) if audited is None else audited
    found = []
    if rows := scores.get("structures"):
        lines: list[tuple[str, ...]] = [
            (name, _figure(one["base"]), _figure(one["tuned"]), _change(one))
            for name, one in rows.items()
        ]
        header: tuple[str, ...] = ("Structure", "Base", "Tuned", "Change")
        text = (
            "Mean validation IoU of each structure, with the weights that were best on validation."
        )
        found.append(Section("Structure by structure", text, table=Table(header, tuple(lines))))
    if judged := audited.get("structures"):
        silent = audited.get("abstains_on", ())
        lines = [
            (
                one["structure"],
                _figure(one["headroom"], "+.3f"),
                _figure(one["harm_top"], ".0%"),
                _figure(one["pair_flip"], ".0%"),
                _figure(one["empty"], ".0%"),
                "always" if one["structure"] in silent else str(one["abstained"]),
            )
            for one in judged
        ]
        header = ("Structure", "Headroom", "HarmTop", "PairFlip", "Empty candidates", "Abstains")
        text = (
            "On labelled validation images before training: what the judge's favourite gains, how "
            "often it is worse than the base's own mask, how often pairs that differ mainly in the "
            "structure are the wrong way round, how many candidates lack it, and on how many slates "
            "the judge abstains."
        )
        found.append(
            Section("The judge on each structure", text, table=Table(header, tuple(lines)))
        )
    return found


def _read(file: Path) -> Mapping[str, Any]:
    if not file.exists():
        return {}
    content = read_json(file, "delete it to report without it")
    return content if isinstance(content, dict) else {}


def _change(one: Mapping[str, float | None]) -> str:
    before, after = one["base"], one["tuned"]
    return "–" if before is None or after is None else f"{after - before:+.3f}"


def _figure(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)
