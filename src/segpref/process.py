"""The role of this process among several; imports nothing that takes time."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["CLOSED_PIPE", "end_in_launch", "is_first_process", "own_first", "processes_of_launch"]

T = TypeVar("T")

CLOSED_PIPE = 128 + 13
"""Exit status where the reader of a pipe has gone, as of a program that SIGPIPE ends."""


def is_first_process() -> bool:
    """Whether this process writes for all of its launch (``accelerate launch``, ``torchrun``)."""
    return _rank() == 0


def processes_of_launch() -> int:
    """How many processes were launched together; 1 for a program that was started alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def end_in_launch(status: int) -> int:
    """End this process with this exit status, if it is one of several that were launched together.

    What was registered with :mod:`atexit` is done, and output is written. The interpreter is not taken
    apart: threads of torch may still let go of tensors that Python knows, need the interpreter for that
    and abort a process that has finished its work, and with it the launch
    (https://github.com/pytorch/pytorch/pull/179291). Leaving the group of processes does not end these
    threads, as data-parallel networks keep it alive.

    Returns:
        The exit status, in a process that was started alone.
    """
    if processes_of_launch() == 1:
        return status
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):  # closed, or their reader has gone
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    os._exit(status)


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
