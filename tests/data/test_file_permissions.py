"""Files and folders that may not be read: one sentence names them."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_inputs import folders, paired, read_all
from written import dicom, grey, nifti, picture, series

from segpref.data import Images
from segpref.types import SegprefError


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Takes the permission to read a file away; also from root, who would be let in anyway."""
    locked: set[str] = set()
    for module, name in ((builtins, "open"), (io, "open"), (os, "scandir"), (os, "listdir")):
        monkeypatch.setattr(module, name, _guarded(getattr(module, name), locked))
    return lambda path: locked.add(str(path))


def _guarded(use: Callable[..., Any], locked: set[str]) -> Callable[..., Any]:
    def guarded(place: Any = ".", *args: Any, **options: Any) -> Any:
        if isinstance(place, str | os.PathLike) and os.fspath(place) in locked:
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(place))
        return use(place, *args, **options)

    return guarded


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "a.tif", "a.dcm", "s/002.dcm"])
def test_files_without_permission(
    tmp_path: Path, name: str, lock: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if path.suffix == ".dcm":
        dicom(path, grey((4, 5), dtype=np.uint16), "1.2.0", None)
        series(tmp_path / "s", grey((3, 4, 5), dtype=np.uint16))
    elif name.startswith("a.nii"):
        nifti(path, grey((4, 5, 3)))
    else:
        picture(path, grey((4, 5)))
    lock(path)
    reader = Images(tmp_path)
    with pytest.raises(SegprefError, match="ask for the permission") as caught:
        read_all(reader)
    assert str(path) in str(caught.value)


def test_folders_without_permission(tmp_path: Path, lock: Callable[[Path], None]) -> None:
    (paired(tmp_path) / "below").mkdir()
    for place, use in (
        ("below", lambda: Images(tmp_path)),
        ("images", lambda: folders(tmp_path)()),
    ):
        lock(tmp_path / place)
        with pytest.raises(SegprefError, match="ask for the permission") as caught:
            use()
        assert str(tmp_path / place) in str(caught.value)
