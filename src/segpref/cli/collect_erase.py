"""`segpref collect erase`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.extras import needed
from segpref.progress import stdout

__all__ = ["EXAMPLES", "POSITIONAL", "collect_erase"]

POSITIONAL = ("study",)

EXAMPLES = """\
  segpref collect erase study --patient P017 --reason "consent was withdrawn"
  segpref collect erase study --patient P017 --reason "asked to" --database postgresql://segpref@db/votes
"""


def collect_erase(
    study: Path, patient: str, reason: str, settings: dict[str, Any], database: str | None = None
) -> None:
    """Remove a patient's images, masks and votes from a study; stop its page first.

    Args:
        study: folder that segpref collect init made.
        patient: id as the dataset has it.
        reason: why; it is kept, with the date and without the patient's id.
        settings: the resolved options.
        database: SQLite file, or URL of a PostgreSQL database, in which votes are kept; votes.sqlite in
            the study if left out.
    """
    needed("sqlalchemy", "collect")
    from segpref.workflows import erase_patient

    found = erase_patient(study, patient, reason, database=database)
    votes = "no database of votes was there" if found.votes is None else f"{found.votes} votes"
    _print(f"Erased: {found.images} images, {found.masks} masks, {found.pairs} pairs; {votes}.")
    if found.trained_on:
        _print(
            "The study's model was trained on this patient, and base.safetensors names them: train a "
            "model without them, and make the study again with it."
        )
    if found.others:
        names = ", ".join(one.name for one in found.others)
        _print(
            f"Not part of the study, so left as they are: {names}. Delete them or make them again."
        )
    _print(
        "Delete older backups, exports and runs that hold the patient: see Erasing a patient in "
        "docs/guide/serving-votes.md."
    )


def _print(text: str) -> None:
    stdout.print(text, highlight=False, soft_wrap=True)
