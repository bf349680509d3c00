"""The process of a job ends with its study, at whatever moment that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from waiting import Trace

pytestmark = pytest.mark.slow
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")

HELD = """
import os, threading
if os.environ.get("HOLD_IN") == __name__:
    pipe = open(os.environ["HOLD_AT"], "w")
    print(os.getpid(), file=pipe, flush=True)
    threading.Event().wait()
"""

WORK = """
def work():
    pass
"""

STUDY = """
import os, signal, sys
from pathlib import Path
import work
from segpref.studies.engine import Job, Processes

if __name__ == "__main__":
    where, at, platform = sys.argv[1:]
    sys.platform = platform
    os.environ.update(HOLD_IN=where, HOLD_AT=at)
    executor = Processes(1)
    executor.start(Path("out"), Job("job", [], work.work))
    try:
        signal.pause()
    finally:
        executor.close()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "sitecustomize.py").write_text(HELD)
    (tmp_path / "work.py").write_text(HELD + WORK)
    (tmp_path / "study.py").write_text(STUDY)
    return tmp_path


def study(place: Path, held_in: str, platform: str) -> tuple[subprocess.Popen[bytes], Trace, int]:
    """A study whose job is held in an import, when that process is gone, and its number."""
    trace = Trace(place / "trace")
    path = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
    with (place / "told.txt").open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "study.py", held_in, str(trace.path), platform],
            cwd=place, env={**os.environ, "PYTHONPATH": path}, stderr=told, start_new_session=True,
        )  # fmt: skip
    return process, trace, int(trace.read())


@pytest.mark.parametrize(
    ("held_in", "platform"),
    [
        pytest.param("sitecustomize", "linux", marks=ON_LINUX),
        pytest.param("work", "linux", marks=ON_LINUX),
        ("work", "darwin"),
    ],
)  # fmt: skip
def test_a_job_ends_with_its_study_also_while_it_imports(
    held_in: str, platform: str, place: Path
) -> None:
    process, trace, _ = study(place, held_in, platform)
    process.kill()
    process.wait()
    assert trace.read() == b"", "the job outlived its study"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_is_no_traceback_of_a_job(number: int, place: Path) -> None:
    process, trace, job = study(place, "work", sys.platform)
    os.kill(job, number)  # as Ctrl-C in a terminal, or a batch system, does to every process
    process.terminate()
    process.wait()
    assert trace.read() == b""
    assert not (place / "told.txt").read_text()
