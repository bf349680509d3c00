"""How the program ends when somebody stops it, or closes the pipe that it writes to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import own_process
from waiting import Trace

PROGRAM = "import sys; from segpref.cli.main import program; sys.exit(program())"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

HELD = """
import os, threading
pipe = open(os.environ["HOLD_AT"], "w")
print("held", file=pipe, flush=True)
threading.Event().wait()
"""

WORK = """
import os, sys, threading
from segpref.cli.shutdown import guarded, stoppable
def run():
    pipe = open(os.environ["HOLD_AT"], "w")
    try:
        with stoppable():
            print("working", file=pipe, flush=True)
            threading.Event().wait()
    finally:
        print("cleaning", file=pipe, flush=True)
        if sys.argv[1] == "long":
            threading.Event().wait()
sys.exit(guarded(run))
"""


AS_USUAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
"""Under nohup, or in the background of a script, some are ignored, and the program leaves them so."""


def started(code: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", AS_USUAL + code, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_imports_is_no_traceback(number: int, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(HELD)
    trace = Trace(tmp_path / "trace")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = started(
        PROGRAM, "fit", "--data", "a", "--out", str(tmp_path / "out"),
        PYTHONPATH=path, HOLD_AT=str(trace.path),
    )  # fmt: skip
    assert trace.read() == b"held\n"
    process.send_signal(number)
    out, printed = process.communicate()
    assert process.returncode == 128 + number
    assert (out, printed) == ("", "segpref: stopped\n")


def as_usual(*given: str) -> int:
    """The program, in a process that its launcher left as it is."""
    from segpref.cli.main import program

    exec(AS_USUAL)
    sys.argv[1:] = given
    return program()


# In processes of their own: in this one a signal may reach another thread than the one that reads.
@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_work_is_a_sentence_that_says_how_to_go_on(
    number: int, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    os.mkfifo(recipe)
    process = own_process.started(as_usual, "study", "--recipe", str(recipe), "--data", "nowhere")
    with recipe.open("w"):  # the command reads it now, and waits
        process.signal(number)
        done = process.ended()
    assert done.returncode == 128 + number
    assert "Traceback" not in done.stderr
    assert "Give the same command again" in " ".join(done.stderr.split())


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("cleaning", ["short", "long"])
def test_a_second_signal_ends_the_cleaning_up(number: int, cleaning: str, tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace")
    process = started(WORK, cleaning, HOLD_AT=str(trace.path))
    assert trace.read() == b"working\n"
    process.send_signal(number)
    assert trace.read() == b"cleaning\n"
    if cleaning == "long":
        process.send_signal(number)
    _, printed = process.communicate()
    assert process.returncode == 128 + number
    assert "Traceback" not in printed


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace")
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = started(ignoring + WORK, "short", HOLD_AT=str(trace.path))
    assert trace.read() == b"working\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("options", "statuses", "stderr"),
    [
        (["--help"], {141}, False),
        (["--help"], {141}, True),
        (["--version"], {141}, False),
        (["--version"], {141}, True),
        pytest.param(["study", "--help"], {0, 141}, True, marks=pytest.mark.slow),
        pytest.param(
            ["study", "--list_only", "--recipe", "phantoms", "--data", "DATA"],
            {141},
            False,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_closed_pipe_is_no_traceback(
    options: list[str], statuses: set[int], stderr: bool, heart_folder: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    given = [str(heart_folder) if one == "DATA" else one for one in options]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *given], stdout=writer,
        stderr=writer if stderr else subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    _, printed = process.communicate()
    assert process.returncode in statuses
    assert not printed or printed.startswith(
        f"{heart_folder}: images with masks"
    )  # what was found there


def test_the_entry_point_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys; before = set(sys.modules); import segpref.cli.main; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True,
                          check=True, env={**os.environ, "PYTHONPATH": "src"},
                          cwd=Path(__file__).parents[2])  # fmt: skip
    heavy = {"torch", "numpy", "rich", "jsonargparse", "logging", "yaml"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"a: [", "is not valid YAML"),
        (b"a: &a [*a]", "is not valid YAML"),
        (b"- 1", "holds no options"),
        (b"nope: 3", "Option 'nope' is not accepted"),
        (b"epochs: many", "epochs: Expected a whole number, got many"),
    ],
)
@pytest.mark.parametrize("joined", [False, True])
def test_a_file_of_options_that_is_wrong_is_one_sentence_with_its_name(
    content: bytes | None, said: str, joined: bool, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from segpref.cli.main import main

    path = tmp_path / "options.yaml"
    if content is not None:
        path.write_bytes(content)
    given = [f"--config={path}"] if joined else ["--config", str(path)]
    assert main(["fit", "--data", "a", "--out", str(tmp_path / "out"), *given]) in (1, 2)
    printed = capsys.readouterr().err
    assert said in printed
    assert str(path) in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "options", [[], ["--nope", "3"], ["--data", "a", "--out", "b", "--epochs", "x"]]
)
def test_a_wrong_command_line_is_one_sentence(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from segpref.cli.main import main

    assert main(["fit", *options]) == 2
    printed = capsys.readouterr().err
    assert "segpref fit --help lists all options" in printed
    assert printed.count("\n") == 1
