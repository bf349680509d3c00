"""Signals and closed pipes: the program ends with an exit status, never with a traceback.

The standard library alone, and little of it: this is imported before anything that takes time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from contextlib import contextmanager

from segpref.process import CLOSED_PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["Stopped", "guarded", "stoppable"]

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


class Stopped(KeyboardInterrupt):
    """A signal asks the program to stop; what catches Ctrl-C catches it."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status that goes with it."""
        return 128 + self.number


class _Watch:
    """What a signal does: raise, so that files are closed and workers stopped, or end at once."""

    def __init__(self) -> None:
        self.raises = False

    def __call__(self, number: int, _: object = None) -> None:
        if self.raises:
            self.raises = False
            raise Stopped(number)
        # Before a command has begun there is nothing to clean up, and an exception amid imports may be
        # swallowed or printed; after a first signal, a second one means: now.
        clear = _SHOW_CURSOR if os.isatty(2) else ""
        with contextlib.suppress(OSError):
            os.write(2, f"{clear}segpref: stopped\n".encode())
        os._exit(128 + number)


_watch = _Watch()


@contextmanager
def stoppable() -> Iterator[None]:
    """From here on a first signal raises :class:`Stopped`; a second one ends the process at once."""
    _watch.raises = True
    try:
        yield
    finally:
        _watch.raises = False


def guarded(run: Callable[[], int]) -> int:
    """Run the program's whole work in this process, which belongs to it.

    Returns:
        The exit status: what ``run`` returns, 128 + the number of a signal that stopped it, or 141
        where the reader of its output has gone.
    """
    _take_signals()
    try:
        try:
            return run()
        finally:
            # Here rather than when the interpreter shuts down, where a closed pipe is a traceback.
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
    except BrokenPipeError:
        if not any(_closed(one) for one in (1, 2)):
            raise  # of another pipe
        return CLOSED_PIPE
    except KeyboardInterrupt as error:
        return error.status if isinstance(error, Stopped) else 128 + signal.SIGINT
    finally:
        _drop_unread()


def _take_signals() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        # What is ignored stays so: SIGHUP under nohup, SIGINT of a job in the background of a script.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _watch)
    usual = sys.unraisablehook

    def swallowed(what: Any) -> None:
        if isinstance(what.exc_value, KeyboardInterrupt):
            _watch(
                getattr(what.exc_value, "number", signal.SIGINT)
            )  # ends here: it has raised once
        usual(what)

    sys.unraisablehook = swallowed


def _closed(descriptor: int) -> bool:
    """Whether its reader is gone."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    gone = select.POLLERR | select.POLLHUP | select.POLLNVAL
    return any(event & gone for _, event in poll.poll(0))


def _drop_unread() -> None:
    """Text that can't be written any more would be tried again at the very end."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), descriptor)
