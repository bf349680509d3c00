"""`segpref collect raters`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from segpref.extras import needed
from segpref.progress import stdout

__all__ = ["EXAMPLES", "POSITIONAL", "collect_raters"]

POSITIONAL = ("study",)

EXAMPLES = """\
  segpref collect raters study --add anna
  segpref collect raters study --add "[ben, cleo]" --address https://votes.hospital.example
  segpref collect raters study --link anna
  segpref collect raters study --revoke ben
"""


def collect_raters(
    study: Path,
    settings: dict[str, Any],
    add: list[str] | str | None = None,
    link: list[str] | str | None = None,
    revoke: list[str] | str | None = None,
    database: str | None = None,
    address: str = "http://127.0.0.1:8000",
) -> None:
    """Add raters, print personal links that work once, revoke raters, and list them all.

    Args:
        study: folder that segpref collect init made.
        settings: the resolved options.
        add: pseudonym of a new rater, or several, "[A, B]"; each gets a link.
        link: rater who gets another link, or several, such as for another device; links that were not
            used are void then.
        revoke: rater whose links and sessions end, or several; their votes stay.
        database: SQLite file, or URL of a PostgreSQL database, in which votes are kept; votes.sqlite in
            the study if left out.
        address: where raters find the page, for the links.
    """
    needed("sqlalchemy", "collect")
    needed("starlette", "collect")
    from segpref.web import Origin
    from segpref.workflows import change_raters

    place = Origin.of(address).address
    found = change_raters(
        study, add=_names(add), link=_names(link), revoke=_names(revoke), database=database
    )
    table = Table(title="Raters")
    for column in ("pseudonym", "answered", "left", ""):
        table.add_column(column, justify="right" if column in ("answered", "left") else "left")
    for rater, progress in found.raters:
        left = "–" if rater.revoked else str(progress.total - progress.done)
        table.add_row(rater.pseudonym, str(progress.done), left, "revoked" if rater.revoked else "")
    stdout.print(table)
    if found.tokens:
        stdout.print("These links work once, and are not shown again:", highlight=False)
    for name, token in found.tokens.items():
        stdout.print(Text(f"  {name}  {place}/#{token}"), soft_wrap=True)


def _names(told: list[str] | str | None) -> list[str]:
    return [] if told is None else [told] if isinstance(told, str) else told
