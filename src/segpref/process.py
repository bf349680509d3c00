"""The role of this process among several; imports nothing that takes time."""

from __future__ import annotations

import os

__all__ = ["CLOSED_PIPE", "is_first_process", "processes_of_launch"]

CLOSED_PIPE = 128 + 13
"""Exit status where the reader of a pipe has gone, as of a program that SIGPIPE ends."""


def is_first_process() -> bool:
    """Whether this process writes for all of its launch (``accelerate launch``, ``torchrun``)."""
    return int(os.environ.get("RANK", "0")) == 0


def processes_of_launch() -> int:
    """How many processes were launched together; 1 for a program that was started alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))
