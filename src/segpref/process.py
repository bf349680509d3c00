"""The role of this process among several; imports nothing that takes time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["CLOSED_PIPE", "is_first_process", "own_first", "processes_of_launch"]

T = TypeVar("T")

CLOSED_PIPE = 128 + 13
"""Exit status where the reader of a pipe has gone, as of a program that SIGPIPE ends."""


def is_first_process() -> bool:
    """Whether this process writes for all of its launch (``accelerate launch``, ``torchrun``)."""
    return _rank() == 0


def processes_of_launch() -> int:
    """How many processes were launched together; 1 for a program that was started alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_first(items: Sequence[T]) -> list[T]:
    """All items, beginning with those that fall to this process of its launch.

    For work whose results lie on a disk that the processes share: what comes after one's own is there
    already, or is done once more where the disk is another one.
    """
    rank, processes = _rank(), processes_of_launch()
    turns = (range(n % processes, len(items), processes) for n in range(rank, rank + processes))
    return [items[place] for turn in turns for place in turn]


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))
