"""Processes of a test's own that start at once: a server that has imported what takes time forks them.

One that begins with the interpreter, as a program does, takes seconds until it has imported torch and
MONAI; a test needs it only where the imports themselves are what it is about.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

# Modules, not faces of packages, which import only what is asked of them; and what is imported late.
IMPORTED = (
    "monai.networks.nets", "matplotlib.backends.backend_agg", "segpref.workflows.align",
    "segpref.workflows.fit", "segpref.workflows.predict", "segpref.cli.options",
)  # fmt: skip

IMPORTED_TOO: list[str] = []
"""What the tests of an environment of its own need besides."""


def own_processes() -> ForkServerContext:
    """Where such processes come from: one server, which lives as long as the tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED, *IMPORTED_TOO])
    return context


@dataclass(frozen=True)
class OwnProcess:
    """A process that is under way."""

    process: ForkServerProcess
    place: tempfile.TemporaryDirectory[str]

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def ended(self) -> Ended:
        """Wait for its end."""
        self.process.join()
        assert self.process.exitcode is not None
        printed = [(Path(self.place.name) / name).read_text() for name in ("out", "err")]
        self.place.cleanup()
        return Ended(self.process.exitcode, *printed)


@dataclass(frozen=True)
class Ended:
    """What a process came to: its exit status (less than 0: the signal) and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def started(
    work: Callable[..., object], *arguments: object, environment: Mapping[str, str] | None = None
) -> OwnProcess:
    """A process that calls a function of a module, and ends with the status that it returns."""
    place = tempfile.TemporaryDirectory()
    given = (Path(place.name), dict(environment or {}), work, arguments)
    process = own_processes().Process(target=_called, args=given)
    process.start()
    return OwnProcess(process, place)


def ended(
    work: Callable[..., object], *arguments: object, environment: Mapping[str, str] | None = None
) -> Ended:
    """The same, and its end."""
    return started(work, *arguments, environment=environment).ended()


def _called(
    place: Path, environment: Mapping[str, str], work: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:  # fmt: skip
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(one, "w", closefd=False) for one in (1, 2))
    os.environ.update(environment)
    # As from a terminal: where tests run in the background it may be ignored, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = work(*arguments)
    sys.exit(status if isinstance(status, int) else 0)
