"""`segpref collect export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from segpref.progress import console
from segpref.workflows.collect_exchange import export_votes

__all__ = ["EXAMPLES", "POSITIONAL", "collect_export"]

POSITIONAL = ("study",)

EXAMPLES = """\
  segpref collect export study --out votes
  segpref collect export study --out votes --form parquet
"""


def collect_export(
    study: Path,
    out: Path,
    settings: dict[str, Any],
    database: str | None = None,
    form: Literal["jsonl", "parquet"] = "jsonl",
) -> None:
    """Write votes in files that datasets reads, with TRL's column names and the masks by their path.

    Args:
        study: folder of the study.
        out: folder that is made.
        settings: the resolved options.
        database: URL of the votes, if they are not in the study's folder.
        form: jsonl or parquet.
    """
    made = export_votes(study, out, database=database, form=form)
    console.print(
        f"{made.folder}: {made.preferences} preferences from {made.votes} votes, with {made.masks} "
        "masks. Its case ids are those of the dataset, which may name patients.",
        soft_wrap=True,
    )
