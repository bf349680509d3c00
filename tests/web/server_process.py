"""A server as a process of its own that can be killed at any moment and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from tests.waiting import FAILED_S, until

_PROGRAM = """
import sys
from segpref.web import ServeConfig, serve
study, database, port = sys.argv[1:]
serve(study, database, ServeConfig(port=int(port)), lambda address: print(address, flush=True))
"""


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class ServerProcess:
    """Serves a study at one address, with interruptions."""

    def __init__(self, study: Path, database: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.starts = 0
        self._arguments = [str(study), database, str(self.port)]
        self._log = study.parent / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *self._arguments],
                stdout=log, stderr=log, env=environment,
            )  # fmt: skip
        self.starts += 1
        until(self._answers)

    def kill(self) -> None:
        """End it at once: it gets no chance to finish anything."""
        self._end(signal.SIGKILL)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ask it to stop; its exit status."""
        return self._end(number)

    def _end(self, number: int) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait()

    def close(self) -> None:
        """Leave nothing running."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            return httpx.get(self.address, timeout=FAILED_S).status_code == 200
        except httpx.TransportError:
            return False
