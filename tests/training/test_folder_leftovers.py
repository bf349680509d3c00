"""What killed processes leave in a run folder, and files of it that were damaged from outside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from segpref.training import RunFolder
from segpref.types import SegprefError

SETTINGS = {"epochs": 3}
DAY_S = 24 * 3600


def leftover(folder: Path, name: str, age_s: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(b"half a file")
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


@pytest.mark.parametrize("resume", [False, True])
def test_opening_removes_what_is_half_written_and_a_day_old(tmp_path: Path, resume: bool) -> None:
    folder = RunFolder(tmp_path / "run")
    if resume:
        folder.open(SETTINGS, resume=False)
    old = leftover(folder.path, ".state.safetensors.ab12cd_8.partial", 1.1 * DAY_S)
    kept = [
        leftover(folder.path, ".state.safetensors.zz12cd_8.partial", 0.9 * DAY_S),
        leftover(folder.path, ".gitignore.template", 9 * DAY_S),
        leftover(folder.path, "notes.partial", 9 * DAY_S),
        leftover(folder.path / "tensorboard", ".x.ab12cd_8.partial", 9 * DAY_S),
    ]
    folder.open(SETTINGS, resume=resume)
    assert not old.exists()
    assert all(path.exists() for path in kept)


def test_a_killed_write_leaves_a_name_that_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.open(SETTINGS, resume=False)
    with monkeypatch.context() as patch:
        # As after a kill, nothing is cleaned up.
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            folder.save_state({"a": torch.zeros(3)}, {"epoch": 1})
    (left,) = (path for path in folder.path.iterdir() if path.name.startswith("."))
    folder.open(SETTINGS, resume=True)
    assert left.exists(), "it may be another process's that is writing now"
    os.utime(left, (1, 1))
    folder.open(SETTINGS, resume=True)
    assert not left.exists()


def test_only_the_first_process_of_a_launch_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = leftover(tmp_path, ".metrics.csv.ab12cd_8.partial", 9 * DAY_S)
    monkeypatch.setenv("RANK", "1")
    RunFolder(tmp_path).open(SETTINGS, resume=False)
    assert old.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"3", b"\xff\xfe\x00"])
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("run.json", lambda folder: folder.open(SETTINGS, resume=True)),
        ("summary.json", lambda folder: folder.read_summary()),
        ("metrics.csv", lambda folder: folder.read_metrics()),
    ],
)
def test_a_damaged_file_is_one_sentence(
    tmp_path: Path, name: str, use: Callable[[RunFolder], Any], content: bytes
) -> None:
    folder = RunFolder(tmp_path)
    folder.open(SETTINGS, resume=False)
    (tmp_path / name).write_bytes(
        content if name != "metrics.csv" else b"epoch\n1,\xff\n" + content
    )
    with pytest.raises(SegprefError, match="start the run again") as caught:
        use(folder)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_state_of_something_else_is_one_sentence(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_file({"a": torch.zeros(2)}, folder.state)
    with pytest.raises(SegprefError, match="delete it to start the run again"):
        folder.load_state()
