"""The parser of a command's options."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from segpref.terminal import visible

__all__ = ["CommandParser"]


class CommandParser(ArgumentParser):  # type: ignore[misc]
    """jsonargparse's, whose messages quote what was given, on the command line or in a file."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        """Print what is wrong, and exit with 2."""
        super().error(visible(message), ex)
