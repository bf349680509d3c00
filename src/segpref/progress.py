"""Progress bars with the time left, for everything that takes more than a few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from segpref.process import CLOSED_PIPE
from segpref.terminal import Terminal, one_line

__all__ = ["console", "headed", "progress_bar", "stdout", "track"]

T = TypeVar("T")


class _Console(Terminal):
    """Ends the program as other programs end when their output pipe is closed."""

    def on_broken_pipe(self) -> None:
        self.quiet = True  # nor what is printed while it ends
        raise SystemExit(CLOSED_PIPE)


console = _Console(stderr=True)
"""Messages and bars go to standard error, so that standard output can be piped."""

stdout = _Console(width=None if sys.stdout.isatty() else 110)
"""Results go to standard output."""


class _Words(TextColumn):
    """Text without markup, in one line."""

    def render(self, task: Task) -> Text:
        return Text(one_line(self.text_format.format(task=task)), style=self.style)


def headed(head: str, rest: str, style: str = "bold") -> Text:
    """A line for a console whose beginning is set off, and the rest highlighted as usual."""
    line = console.render_str(f"{head}{rest}")
    line.stylize(style, 0, len(console.render_str(head)))
    return line


def progress_bar(transient: bool = False) -> Progress:
    """A bar with count, elapsed time and time left, plus the free field ``note``."""
    return Progress(
        _Words("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        _Words("{task.fields[note]}"),
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
