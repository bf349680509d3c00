"""`segpref collect restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.extras import needed
from segpref.progress import stdout

__all__ = ["EXAMPLES", "POSITIONAL", "collect_restore"]

POSITIONAL = ("study", "backup")

EXAMPLES = """\
  segpref collect restore study backups/monday.sqlite
  segpref collect restore study backups/monday.sqlite --database postgresql://segpref@db/votes
"""


def collect_restore(
    study: Path, backup: Path, settings: dict[str, Any], database: str | None = None
) -> None:
    """Copy a backup into an empty database, of either kind; patients erased since are left out.

    Args:
        study: folder that segpref collect init made.
        backup: file that segpref collect backup wrote.
        settings: the resolved options.
        database: SQLite file, or URL of a PostgreSQL database, which is empty; votes.sqlite in the
            study if left out.
    """
    needed("sqlalchemy", "collect")
    from segpref.workflows import restore_votes

    count = restore_votes(study, backup, database=database)
    stdout.print(f"{count} votes were restored.", highlight=False)
    stdout.print(
        "Revoke again whoever was revoked since the backup: segpref collect raters --revoke",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
