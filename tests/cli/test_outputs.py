"""Every command looks at where its output goes before it does anything else."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from segpref.cli import command_parser
from segpref.cli.main import COMMANDS, main
from segpref.studies import STUDY_FILES
from segpref.studies.ambiguity import AMBIGUITY_FILES
from segpref.studies.prompted import PROMPTED_FILES

pytestmark = pytest.mark.slow

PAGE = ("audit", "report")
FILES = {("evaluate", "out"), ("audit", "out"), PAGE, ("export", "out"), ("collect backup", "out")}
WITHIN = {f"collect {name}" for name in ("erase", "import", "raters", "restore", "serve")}
"""Commands that write into the study that they are given, or into its database."""
OUTPUTS = ("out", "output", "cache")
GIVEN = {
    "model": "no/model",
    "data": "no/data",
    "input": "no/input",
    "others": "no/others",
    "judge": "oracle",
    "study": "no/study",
}
"""Required options; what they name is not there, so that whatever is looked at first is told of."""


def options_of(command: str) -> list[str]:
    """Names of the options by which a command is told where to write."""
    parser, _ = command_parser(command)
    return [action.dest for action in parser._actions if action.dest in OUTPUTS]


@cache
def required_by(command: str) -> list[str]:
    parser, _ = command_parser(command)
    return [one.dest for one in parser._actions if one.required]


def required(command: str, without: str) -> list[str]:
    given = []
    for name in (one for one in required_by(command) if one != without):
        value = {"recipe": "phantoms", "out": "no/out", "output": "no/out"}.get(name)
        # The folder of a study has its place instead of a name.
        given += [GIVEN[name]] if name == "study" else [f"--{name}", value or GIVEN[name]]
    return given


PLACES = [PAGE, *((command, name) for command in COMMANDS for name in options_of(command))]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/full")


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))  # a copy of /dev/full
    except PermissionError:
        pytest.skip("only the superuser makes devices")


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("mine")


def refused(
    command: str, name: str, path: Path, capsys: pytest.CaptureFixture[str], says: str
) -> None:
    assert main([*command.split(), *required(command, name), f"--{name}", str(path)]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"segpref {command}: ")
    assert printed.count("\n") == 1
    assert says in printed


@pytest.mark.parametrize("obstacle", [fifo, dangling, link_to_device, device, below_a_file])
@pytest.mark.parametrize(("command", "name"), PLACES)
def test_a_place_that_is_none_is_refused_first(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
    obstacle: Callable[[Path], None],
) -> None:
    (tmp_path / "at").mkdir()
    path = tmp_path / "at" / "out.ts"
    obstacle(path)
    before = sorted((one, one.lstat().st_mode, one.lstat().st_ino) for one in tmp_path.rglob("*"))
    refused(command, name, path, capsys, str(path))
    after = sorted((one, one.lstat().st_mode, one.lstat().st_ino) for one in tmp_path.rglob("*"))
    assert after == before


@pytest.mark.parametrize(("command", "name"), PLACES)
def test_no_file_for_a_folder_and_no_folder_for_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    path = tmp_path / "out.ts"
    if (command, name) in FILES:
        path.mkdir()
        refused(command, name, path, capsys, f"{path} is a folder, not a file")
    else:
        path.write_text("mine")
        refused(command, name, path, capsys, f"{path} is a file, not a folder")
        assert path.read_text() == "mine"


@pytest.mark.parametrize(("command", "name"), [one for one in PLACES if one not in FILES])
def test_no_folder_with_a_pipe_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(command, name, tmp_path, capsys, "which is a named pipe")


KINDS = {
    "run": "run.json",
    "study": "recipe.yaml",
    "votes": "study.json",
    "preferences": "about.json",
    "pack": "pack.json",
    "model": "plans.json",
    "dataset": "dataset.json",
}
OWN = {"fit": "run", "align": "run", "pack": "pack"}
OWN |= dict.fromkeys(("demo", "study", "ambiguity", "prompted"), "study")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("command", "name"), [one for one in PLACES if one not in FILES and one[1] != "cache"]
)
def test_no_folder_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str, kind: str
) -> None:
    if OWN.get(command) == kind:
        pytest.skip("its own")
    (tmp_path / KINDS[kind]).write_text("{}")
    refused(command, name, tmp_path, capsys, f"{tmp_path} ")
    assert [one.name for one in tmp_path.iterdir()] == [KINDS[kind]]


WRITTEN = {
    "demo": STUDY_FILES,
    "study": STUDY_FILES,
    "ambiguity": AMBIGUITY_FILES,
    "prompted": PROMPTED_FILES,
}


@pytest.mark.parametrize(
    ("command", "file"), [(command, file) for command, files in WRITTEN.items() for file in files]
)
def test_no_folder_where_a_file_of_a_study_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, file: str
) -> None:
    (tmp_path / file).mkdir()
    refused(command, "out", tmp_path, capsys, f"{tmp_path / file} is a folder, not a file")


def test_every_command_that_writes_is_asked() -> None:
    assert {command for command, _ in PLACES} == set(COMMANDS) - WITHIN
