"""The command line: `segpref COMMAND`, one module per command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.cli.options import command_parser
    from segpref.cli.shutdown import guarded
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "options": ("command_parser",),
            "shutdown": ("guarded",),
        },
    )

__all__ = [
    "command_parser",
    "guarded",
]
