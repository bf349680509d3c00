"""Runs a function in a process of its own, which ends with this one in any case."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import spawn, util
from typing import Any

from segpref.studies.engine import worker
from segpref.types import SegprefError

__all__ = ["Launched"]

_PATIENCE_S = 10.0

# Runs without site packages, so that nothing can delay it, and then becomes the worker. The kernel
# kills that when its parent dies, also while the interpreter starts or torch is imported.
_TIED = """
import ctypes, os, signal, sys
parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != int(parent):
    os._exit(1)
os.execv(command[0], command)
"""


class Launched:
    """A function that runs in a new Python process.

    On Linux the kernel ends the process with this one. Elsewhere it notices the end of a pipe, which it
    watches before it imports anything but the standard library. Ctrl-C in a terminal reaches this
    process only, which stops the other.

    Args:
        name: of the process.
        function: importable there; returns what JSON can hold.
        arguments: that can be pickled.
        environment: variables that differ from this process's.
        ended: is called with what the function returned, or with the exit status of a process that was
            killed before that; in a thread.

    Raises:
        SegprefError: the arguments can't be pickled.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        environment: Mapping[str, str],
        ended: Callable[[Any, int], None],
    ) -> None:
        preparation = spawn.get_preparation_data(name)
        preparation.pop("authkey", None)  # is for connections that a worker does not have
        try:
            parts = [pickle.dumps(preparation), pickle.dumps((function, tuple(arguments)))]
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SegprefError(
                f"{name} can't be handed to another process ({error}): define its classes and "
                "functions at the top of a module"
            ) from error
        self._process = _started({**os.environ, **environment})
        self._ended = ended
        threading.Thread(target=self._attend, args=(parts,), daemon=True).start()

    def terminate(self) -> None:
        """Ask the process to stop."""
        self._process.terminate()

    def join(self) -> None:
        """Wait until it has, and make it after a while."""
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _attend(self, parts: Sequence[bytes]) -> None:
        pipe, answer = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answer is not None
        with contextlib.suppress(OSError):  # it may have died already, as its exit status says
            for part in parts:
                pipe.write(len(part).to_bytes(8) + part)
            pipe.flush()
        # The pipe stays open: it is what the worker hangs on.
        text = answer.read()
        status = self._process.wait()
        for one in (pipe, answer):
            with contextlib.suppress(OSError):
                one.close()
        try:
            # What a start-up file printed may come before.
            self._ended(json.loads(text.splitlines()[-1]), 0)
        except (IndexError, ValueError):
            self._ended(None, status or 1)


def _started(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, *util._args_from_interpreter_flags(), "-P", worker.__file__]  # type: ignore[attr-defined]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]
    # A signal that is blocked stays blocked in the new process, from its first moment.
    blocked = hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocked else None
    try:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
