"""`segpref collect backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text

from segpref.extras import needed
from segpref.progress import stdout

__all__ = ["EXAMPLES", "POSITIONAL", "collect_backup"]

POSITIONAL = ("study",)

EXAMPLES = """\
  segpref collect backup study --out backups/monday.sqlite
  segpref collect backup study --database postgresql://segpref@db/votes --out backups/monday.sqlite
"""


def collect_backup(
    study: Path, out: Path, settings: dict[str, Any], database: str | None = None
) -> None:
    """Copy all votes of a study, with raters and links, to one file; voting may go on.

    Args:
        study: folder that segpref collect init made.
        out: the SQLite file to make; it is as confidential as the database.
        settings: the resolved options.
        database: SQLite file, or URL of a PostgreSQL database, in which votes are kept; votes.sqlite in
            the study if left out.
    """
    needed("sqlalchemy", "collect")
    from segpref.workflows import backup_votes

    made = backup_votes(study, out, database=database)
    stdout.print(Text(f"Backup: {made}"), soft_wrap=True)
