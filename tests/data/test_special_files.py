"""Devices, named pipes and sockets among images: refused in one sentence, never waited for."""

from __future__ import annotations

import builtins
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written import bound_socket, description, dicom, grey, labels, nifti, picture

from segpref.data import (
    Cache,
    Folders,
    Images,
    Preparation,
    Tree,
    open_dataset,
    prepare,
    read_volume,
)
from segpref.types import LabelSpace, SegprefError


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


SPECIAL = {pipe: "a named pipe", device: "a device", bound_socket: "a socket"}
SPACE = LabelSpace("multi-class", ("background", "a"))


@pytest.fixture(autouse=True)
def _never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens a pipe waits for a writer, for ever: here it is an error."""
    for module in (builtins, io):
        monkeypatch.setattr(module, "open", _guarded(module.open))


def _guarded(use: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(place: Any, *args: Any, **options: Any) -> Any:
        if isinstance(place, str | os.PathLike) and os.path.lexists(place):
            mode = Path(place).stat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode), f"{place} was opened"
        return use(place, *args, **options)

    return guarded


def pairs(folder: Path) -> Path:
    for name in "ab":
        picture(folder / "images" / f"{name}.png", grey((8, 8)))
        picture(folder / "labels" / f"{name}.png", labels((8, 8), 2))
    return folder


@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize(
    "name", ["images/c.png", "images/c.nii.gz", "images/c.dcm", "labels/a.png", "c.xml", "x.IMG"]
)
def test_a_dataset_with_one(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    place = pairs(tmp_path) / name
    place.unlink(missing_ok=True)
    make(place)
    with pytest.raises(SegprefError, match=f"is {SPECIAL[make]}, not a file: move it") as said:
        prepare(open_dataset(tmp_path), Preparation(), Cache(tmp_path / "cache"))
    assert str(place) in str(said.value)


@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize("name", ["c.png", "c.nii.gz", "c.dcm", "sub/c.dcm"])
def test_a_folder_of_images_with_one(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    dicom(tmp_path / "sub" / "001.dcm", grey((4, 6), dtype="uint16"), "1.2", None)
    make(tmp_path / name)
    with pytest.raises(SegprefError, match=f"{name} is {SPECIAL[make]}, not a file"):
        prepare(Images(tmp_path), Preparation(), Cache(tmp_path / "cache"), SPACE)


@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize("name", ["a.png", "a.nii", "a.dcm", "a"])
def test_one_by_itself(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path / name)
    for use in (read_volume, Images):
        with pytest.raises(SegprefError, match=f"is {SPECIAL[make]}, not a file"):
            use(tmp_path / name)


def test_one_that_a_description_names(tmp_path: Path) -> None:
    nifti(tmp_path / "imagesTr" / "a.nii.gz", grey((5, 6, 4)))
    pipe(tmp_path / "imagesTr" / ".b.nii.gz")  # hidden from the walker
    description(
        tmp_path, modality={"0": "MRI"}, labels={"0": "background", "1": "a"},
        training=[{"image": f"imagesTr/{name}.nii.gz"} for name in ("a", ".b")],
    )  # fmt: skip
    with pytest.raises(SegprefError, match=r"\.b\.nii\.gz is a named pipe"):
        open_dataset(tmp_path)


def test_one_that_takes_the_place_of_an_image_after_opening(tmp_path: Path) -> None:
    reader = Folders(pairs(tmp_path))
    (tmp_path / "images" / "b.png").unlink()
    pipe(tmp_path / "images" / "b.png")
    with pytest.raises(SegprefError, match=r"b\.png is a named pipe"):
        prepare(reader, Preparation(), Cache(tmp_path / "cache"))


def test_hidden_ones_are_left_alone(tmp_path: Path) -> None:
    pipe(pairs(tmp_path) / "images" / ".lock.png")
    assert len(open_dataset(tmp_path).sources()) == 2
    assert tmp_path / "images" / ".lock.png" in Tree(tmp_path).skipped
