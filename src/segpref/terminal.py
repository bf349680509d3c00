"""Terminal output in which text from data can't control the terminal.

Names of files, patients and structures may come from untrusted sources. What in them would move
the cursor, change colours, reorder a line or end the program for want of an encoding is shown as
an escape (``\\x1b``). Colours that segpref chooses itself pass, as styles of rich: text is never
read as markup.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

__all__ = ["Terminal", "one_line", "print_uncaught", "set_up_messages", "visible"]

# C0 and C1 without tab and line feed, DEL, line and paragraph separators, overrides and isolates of
# the writing direction, and halves of characters, which stand for bytes in file names.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BREAK = re.compile("[\t\n]")


def visible(text: str) -> str:
    """The text with control characters as escapes; tabs and line feeds stay."""
    return _CONTROL.sub(_escape, text)


def one_line(text: str) -> str:
    """The same with tabs and line feeds as escapes, too: for what must not look like two messages."""
    return _BREAK.sub(_escape, visible(text))


class Terminal(Console):
    """A console that takes text as it is: no markup, no emoji codes, no control characters."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text as it is shown, with highlighting; before its width is measured."""
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is written; of rich's own moves of the cursor nothing is lost."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


class _Messages(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Ours are sentences; those of other libraries may have lines."""
        text = super().format(record)
        ours = record.name.partition(".")[0] == "segpref" and not record.exc_info
        return one_line(text) if ours else visible(text)


def set_up_messages() -> None:
    """Let log messages and Python's warnings, ours and of any library, pass the same boundary."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Messages("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    warnings.formatwarning = _formatwarning


def print_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A traceback, in place of :data:`sys.excepthook`."""
    sys.stderr.write(visible("".join(traceback.format_exception(kind, error, trace))))


_usual = warnings.formatwarning


def _formatwarning(*given: Any, **named: Any) -> str:
    return visible(_usual(*given, **named))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
