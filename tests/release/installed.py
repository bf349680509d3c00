"""The programs of an environment that holds the wheel, run as a user runs them."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Installed:
    """The programs of an environment, run in a folder, with nothing from this one's variables.

    Args:
        programs: the environment's ``bin``.
        folder: where they run; their home and cache are in it, too.
        variables: of their environment, besides.
    """

    def __init__(self, programs: Path, folder: Path, **variables: str) -> None:
        self.folder = folder
        self._programs = programs
        self._variables = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "COLUMNS": "200",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
            **variables,
        }

    def start(self, program: str, *options: str, **kept: Any) -> subprocess.Popen[str]:
        """One of them, running."""
        command = [str(self._programs / program), *options]
        return subprocess.Popen(command, cwd=self.folder, env=self._variables, text=True, **kept)

    def run(self, program: str, *options: str) -> str:
        """What one of them prints; what it says meanwhile goes to this process's standard error."""
        process = self.start(program, *options, stdout=subprocess.PIPE)
        told, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{program} {' '.join(options)}: exit status {process.returncode}")
        return str(told)

    @contextmanager
    def serving(self, study: str) -> Iterator[str]:
        """The address of the page, while ``segpref collect serve`` runs; Ctrl-C ends it."""
        process = self.start(
            "segpref", "collect", "serve", study, "--port", "0", stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        try:
            told = "".join(
                itertools.takewhile(lambda line: "--add NAME" not in line, process.stderr)
            )
            found = re.search(r"The page is at (http://127\.0\.0\.1:\d+) ", told)
            assert found, told
            yield found[1]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()
