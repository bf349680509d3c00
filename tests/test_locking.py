"""One process at a time in every folder that is written over time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segpref.cli.main import main
from segpref.data import Reader, write_pack
from segpref.inference import predict_folder
from segpref.locking import alone_in
from segpref.studies.engine import Job, run_jobs
from segpref.studies.prompted import run_prompted
from segpref.training import RunFolder
from segpref.types import SegprefError
from waiting import FAILED_S

HOLD = """
import sys
from pathlib import Path
from segpref.locking import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


Occupied = tuple[Path, subprocess.Popen[bytes]]


@contextmanager
def held(folder: Path) -> Iterator[Occupied]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield folder, process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def occupied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Occupied]:
    """A folder in which another process is at work."""
    with held(tmp_path_factory.mktemp("occupied") / "out") as found:
        yield found


@pytest.fixture
def leaving(tmp_path: Path) -> Iterator[Occupied]:
    """A folder that another process is about to leave."""
    with held(tmp_path / "out") as found:
        yield found


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


@pytest.mark.slow
def test_a_second_process_is_told_who_is_there(
    occupied: Occupied,
) -> None:
    folder, process = occupied
    with (
        pytest.raises(SegprefError, match="another process is running in") as caught,
        alone_in(folder),
    ):
        raise AssertionError
    for printed in (str(folder), f"process {process.pid} on {socket.gethostname()}", "stop it"):
        assert printed in str(caught.value)
    assert files(folder) == {Path(".lock")}


@pytest.mark.slow
def test_a_process_that_was_killed_blocks_nobody(
    leaving: Occupied, caplog: pytest.LogCaptureFixture
) -> None:
    folder, process = leaving
    process.kill()
    process.wait()
    assert (folder / ".lock").exists()
    with alone_in(folder):
        pass
    assert not caplog.records
    assert not (folder / ".lock").exists()


@pytest.mark.slow
def test_a_process_that_ends_lets_the_next_one_in(
    leaving: Occupied,
) -> None:
    folder, process = leaving
    process.communicate()
    with alone_in(folder):
        assert json.loads((folder / ".lock").read_text())["process"] == os.getpid()


def test_who_waits_gets_the_folder_when_it_is_free(
    leaving: Occupied,
) -> None:
    folder, process = leaving
    assert process.stdin is not None
    threading.Thread(target=process.stdin.close).start()
    with alone_in(folder, patience_s=FAILED_S):
        assert json.loads((folder / ".lock").read_text())["process"] == os.getpid()


@pytest.mark.parametrize("command", ["fit", "align", "demo"])
def test_commands_look_before_any_work(
    command: str,
    occupied: Occupied,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, process = occupied
    options = {
        "fit": ["--data", "nowhere", "--resume"],
        "align": ["--data", "nowhere", "--model", "nowhere", "--judge", "nowhere"],
        "demo": [],
    }[command]
    assert main([command, "--out", str(folder), *options]) == 1
    printed = capsys.readouterr().err
    assert "another process is running in" in printed
    assert f"process {process.pid}" in printed
    assert files(folder) == {Path(".lock")}


def _begin(folder: Path, **_: Any) -> None:
    with RunFolder(folder).begun({}, resume=True):
        raise AssertionError


def _predict(folder: Path, heart_base: Path, heart_folder: Path) -> None:
    predict_folder(heart_base, heart_folder / "images", folder)


def _pack(folder: Path, heart_reader: Reader) -> None:
    write_pack(heart_reader, folder)


def _jobs(folder: Path) -> None:
    run_jobs(folder, [Job("name", [folder / "file"], _never)])


def _prompted(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segpref.studies.prompted.run.prompted_jobs", lambda *_: [])
        patch.setattr("segpref.studies.prompted.run.write_prompted", _never)
        run_prompted(SimpleNamespace(out=folder, reader=None))  # type: ignore[arg-type]


def _never(*_: object) -> None:
    raise AssertionError("it worked where another process is at work")


@pytest.mark.parametrize(
    ("work", "fixtures"),
    [
        (_begin, ()),
        (_predict, ("heart_base", "heart_folder")),
        (_pack, ("heart_reader",)),
        (_jobs, ()),
        (_prompted, ()),
    ],
)
def test_whatever_writes_over_time_is_alone(
    work: Callable[..., None],
    fixtures: tuple[str, ...],
    occupied: Occupied,
    request: pytest.FixtureRequest,
) -> None:
    folder, _ = occupied
    given = {name: request.getfixturevalue(name) for name in fixtures}
    with pytest.raises(SegprefError, match="another process is running in"):
        work(folder, **given)
    assert files(folder) == {Path(".lock")}


def test_what_holds_a_folder_may_take_it_again_but_no_other_thread(tmp_path: Path) -> None:
    printed: list[str] = []

    def other() -> None:
        try:
            with alone_in(tmp_path):
                printed.append("both are in")
        except SegprefError as error:
            printed.append(str(error))

    with alone_in(tmp_path), alone_in(tmp_path / "."):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "another process is running" in printed[0]
    assert not files(tmp_path)


def test_the_first_process_of_a_launch_holds_the_lock_for_all(
    occupied: Occupied, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = occupied
    monkeypatch.setenv("RANK", "1")
    with alone_in(folder):
        pass
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SegprefError), alone_in(folder):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_worked_on_with_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with alone_in(tmp_path / "out"):
            (tmp_path / "out" / "file").touch()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "file system without locks" in caplog.text
    assert str(tmp_path / "out") in caplog.text


def test_a_holder_on_another_machine_that_vanished_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".lock").write_text('{"process": 12, "host": "another-node"}')
    with alone_in(tmp_path):
        pass
    assert "process 12 on another-node was running in" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\x01"])
def test_a_damaged_note_is_nobody(content: str, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(content)
    with alone_in(tmp_path):
        pass


def test_a_refused_command_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "a"
    assert main(["fit", "--data", "nowhere", "--out", str(out)]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SegprefError, match="can't be written") as caught, alone_in(out):
            pass
        assert str(out) in str(caught.value)


@pytest.mark.slow
def test_a_run_that_trains_holds_its_folder(tmp_path: Path) -> None:
    """As it is seen from outside, in the middle of a training that somebody calls from Python."""
    code = """
import sys
from types import SimpleNamespace
import torch
from segpref.training import RunFolder
from segpref.runtime import Runtime
from segpref.training.loop import run_loop
from segpref.training.schedules import constant
def validate():
    print("training", flush=True)
    sys.stdin.read()
    raise SystemExit
network = torch.nn.Linear(1, 1)
run_loop(folder=RunFolder(sys.argv[1]), network=network, card=None,
         optimizer=torch.optim.SGD(network.parameters()), learning_rate=constant(1), epochs=1,
         batches=lambda epoch: [[0]], step=None, validate=validate,
         runtime=Runtime("no"), description="")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"training\n"
    with pytest.raises(SegprefError, match=f"process {process.pid}"), alone_in(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with alone_in(tmp_path):
        pass
