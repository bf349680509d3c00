"""Progress bars with the time left, for everything that takes more than a few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from segpref.process import CLOSED_PIPE

__all__ = ["console", "progress_bar", "stdout", "track"]

T = TypeVar("T")


class _Console(Console):
    """Ends the program as other programs end where nobody reads what they print."""

    def on_broken_pipe(self) -> None:
        self.quiet = True  # nor what is printed while it ends
        raise SystemExit(CLOSED_PIPE)


console = _Console(stderr=True)
"""Messages and bars go to standard error, so that standard output can be piped."""

stdout = _Console(width=None if sys.stdout.isatty() else 110)
"""Results go to standard output."""


def progress_bar(transient: bool = False) -> Progress:
    """A bar with count, elapsed time and time left, plus the free field ``note``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=transient,
        # In a log file a bar would only leave empty lines.
        disable=not console.is_terminal,
    )


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield the items and show how far it is; the bar goes when it is done."""
    with progress_bar(transient=True) as bar:
        task = bar.add_task(description, total=total, note="")
        for item in items:
            yield item
            bar.advance(task)
