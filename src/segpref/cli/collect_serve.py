"""`segpref collect serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.extras import needed
from segpref.progress import console
from segpref.web.settings import ServeConfig

__all__ = ["EXAMPLES", "POSITIONAL", "collect_serve"]

POSITIONAL = ("study",)

EXAMPLES = """\
  segpref collect serve study
  segpref collect serve study --behind_tls true --address https://votes.hospital.example
  segpref collect serve study --database postgresql://segpref@db.hospital.example/votes
"""


def collect_serve(
    study: Path, settings: dict[str, Any], config: ServeConfig, database: str | None = None
) -> None:
    """Serve the page on which people compare the masks of a study, until Ctrl-C.

    Args:
        study: folder that segpref collect init made.
        settings: the resolved options.
        config: where the page is.
        database: SQLite file, or URL of a PostgreSQL database, in which votes are kept; votes.sqlite in
            the study if left out.
    """
    for package in ("fastapi", "uvicorn", "sqlalchemy"):
        needed(package, "collect")
    from segpref.web.serving import serve

    def ready(address: str) -> None:
        option = f" --database {_without_password(database)}" if database else ""
        _print(f"The page is at {address} until Ctrl-C.")
        _print(
            f"Each rater needs a link: segpref collect raters {study}{option} --address {address} "
            "--add NAME"
        )
        if config.is_open:
            _print(
                "Other machines can reach it without encryption: put it behind a TLS proxy, and give "
                "--behind_tls true, before patients' images are shown."
            )

    serve(study, database, config, ready)


def _without_password(database: str) -> str:
    from sqlalchemy.engine import make_url

    return str(make_url(database)) if "://" in database else database


def _print(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
