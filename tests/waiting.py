"""Waiting for another process without a guess at how long it takes."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FAILED_S = 600.0
"""Longer than anything takes on any machine: only a test that fails waits as long."""


def until(condition: Callable[[], object]) -> None:
    """Ask again and again until it holds."""
    end = time.monotonic() + FAILED_S
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.01)


@contextmanager
def in_time() -> Iterator[None]:
    """Turn a search that never ends into a failure."""

    def over(*_: object) -> None:
        raise TimeoutError("this never ends")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(int(FAILED_S))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Trace:
    """A named pipe that a process holds open as long as it lives: what it writes, and when it is gone.

    Args:
        path: where the pipe is made; the process opens it for writing.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> bytes:
        """The next that is written; nothing once the writer has died."""
        ready, _, _ = select.select([self._end], [], [], FAILED_S)
        assert ready, "nobody wrote, nobody died"
        return os.read(self._end, 4096)

    def gone(self) -> bytes:
        """Wait until all that held it are dead: what they had written since."""
        return b"".join(iter(self.read, b""))
