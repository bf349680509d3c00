"""`segpref collect import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.progress import console
from segpref.workflows.collect_exchange import import_votes

__all__ = ["EXAMPLES", "POSITIONAL", "collect_import"]

POSITIONAL = ("study",)

EXAMPLES = """\
  segpref collect import study --input votes
  segpref collect import study --input votes --database postgresql://segpref@db/votes
"""


def collect_import(
    study: Path, input: Path, settings: dict[str, Any], database: str | None = None
) -> None:
    """Write exported votes into the empty database of the same study.

    Args:
        study: folder of the study, or a copy of it.
        input: folder of segpref collect export.
        settings: the resolved options.
        database: URL of the database, if it is not in the study's folder.
    """
    votes = import_votes(study, input, database=database)
    console.print(f"{database or study}: {votes} votes", soft_wrap=True)
