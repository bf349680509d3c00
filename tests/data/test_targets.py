"""Nothing but a regular file is replaced by output, and a link is written through."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from written import bound_socket

from segpref.data import Split, write_atomically, write_csv
from segpref.data.phantoms import write_phantoms
from segpref.inference import write_map, write_mask
from segpref.report import Page, write_page
from segpref.training import RunFolder
from segpref.types import Case, LabelSpace, SegprefError

SPACE = LabelSpace("multi-class", ("background", "x"))
CASE = Case(id="a", patient="a", volume="a", image=np.zeros((1, 4, 4), np.float32))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def circle(path: Path) -> None:
    path.symlink_to(path)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def link_to_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to(path.with_name("pipe"))


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))  # a copy of /dev/full
    except PermissionError:
        pytest.skip("only the superuser makes devices")


OBSTACLES = [
    fifo, folder, dangling, circle, link_to_device, link_to_fifo, device, bound_socket
]  # fmt: skip

WRITERS: dict[str, Callable[[Path], object]] = {
    "write_atomically": lambda path: write_atomically(path, b"new"),
    "write_csv": lambda path: write_csv(path, [{"a": 1}]),
    "split": lambda path: Split(("a",), (), (), ()).save(path),
    "page": lambda path: write_page(path, Page("t", "v")),
    "mask.png": lambda path: write_mask(path, np.zeros((1, 4, 4), np.uint8), SPACE, CASE),
    "map.tif": lambda path: write_map(path, np.zeros((1, 4, 4), np.float32), SPACE, CASE),
}


def seen(path: Path) -> tuple[int, int, str]:
    status = path.lstat()
    return status.st_ino, status.st_mode, str(path.readlink()) if path.is_symlink() else ""


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_no_file_is_left_as_it_is(
    tmp_path: Path, writer: str, obstacle: Callable[[Path], None]
) -> None:
    path = tmp_path / writer
    obstacle(path)
    before, names = seen(path), sorted(tmp_path.iterdir())
    with pytest.raises(SegprefError, match="choose another") as refused:
        WRITERS[writer](path)
    assert str(path) in str(refused.value)
    assert (seen(path), sorted(tmp_path.iterdir())) == (before, names)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_to_a_file_is_written_through(tmp_path: Path, writer: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, path = tmp_path / "elsewhere" / "real", tmp_path / writer
    real.write_bytes(b"old")
    path.symlink_to(Path("elsewhere") / "real")
    WRITERS[writer](path)
    assert path.is_symlink()
    assert real.read_bytes() != b"old"
    assert sorted(tmp_path.rglob("*")) == sorted([real.parent, real, path])


def run_files() -> Iterator[str]:
    run = RunFolder("run")
    yield from (path.name for path in vars(run).values() if path != run.path)


@pytest.mark.parametrize("name", [*run_files(), "anything"])
@pytest.mark.parametrize("obstacle", [fifo, bound_socket])
def test_a_run_begins_in_no_folder_with_obstacles(
    tmp_path: Path, name: str, obstacle: Callable[[Path], None]
) -> None:
    obstacle(tmp_path / name)
    with pytest.raises(SegprefError, match="choose another"):
        RunFolder(tmp_path).open({}, resume=False)


@pytest.mark.parametrize("name", run_files())
def test_no_folder_stands_where_a_run_writes_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(SegprefError, match="is a folder, not a file"):
        RunFolder(tmp_path).open({}, resume=False)


def test_what_another_process_takes_away_meanwhile_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are written under another name first, which is listed and gone a moment later."""
    listed = Path.iterdir
    gone = tmp_path / ".config.yaml.x.partial"

    def iterdir(folder: Path) -> Iterator[Path]:
        yield from listed(folder)
        yield gone

    monkeypatch.setattr(Path, "iterdir", iterdir)
    RunFolder(tmp_path).open({}, resume=False)
    assert sorted(one.name for one in listed(tmp_path)) == ["config.yaml", "run.json"]


def test_phantoms_replace_nothing_else(tmp_path: Path) -> None:
    made = write_phantoms(tmp_path / "data", "cardiac", (16, 16), 1, seed=0, slices_per_patient=1)
    victim = sorted((made / "images").iterdir())[0]
    victim.unlink()
    victim.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SegprefError, match="leads nowhere"):
        write_phantoms(made, "cardiac", (16, 16), 1, seed=0, slices_per_patient=1)
