"""What the machine can't do now is not taken for a damaged file."""

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
from bad_inputs import read_all
from written import dicom, grey, nifti, picture

from segpref.data import Cache, Images, Split, open_dataset, write_atomically
from segpref.training import RunFolder
from segpref.types import SegprefError

SCARCE = [
    (errno.EMFILE, "ulimit -n"), (errno.ENFILE, "open files"), (errno.ENOMEM, "free some memory"),
    (errno.EIO, "check that disk"),
]  # fmt: skip

Scarce = Callable[[Path, int], None]


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> Scarce:
    """Lets every opening of a file fail in one way."""
    failing: dict[str, int] = {}

    def guarded(use: Callable[..., Any]) -> Callable[..., Any]:
        def opened(place: Any, *args: Any, **options: Any) -> Any:
            number = failing.get(str(place))
            if number is not None:
                raise OSError(number, os.strerror(number), str(place))
            return use(place, *args, **options)

        return opened

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", guarded(module.open))
    return lambda path, number: failing.update({str(path): number})


@pytest.mark.parametrize(("number", "fix"), SCARCE)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "a.tif", "a.dcm"])
def test_images(tmp_path: Path, name: str, number: int, fix: str, scarce: Scarce) -> None:
    path = tmp_path / name
    if path.suffix == ".dcm":
        dicom(path, grey((4, 5), dtype=np.uint16), "1.2.0", None)
    elif name.startswith("a.nii"):
        nifti(path, grey((4, 5, 3)))
    else:
        picture(path, grey((4, 5)))
    reader = Images(tmp_path)
    scarce(path, number)
    with pytest.raises(SegprefError, match=fix) as caught:
        read_all(reader)
    assert os.strerror(number) in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("number", "fix"), SCARCE)
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("dataset.json", lambda folder: open_dataset(folder)),
        ("run.json", lambda folder: RunFolder(folder).open({}, resume=True)),
        ("summary.json", lambda folder: RunFolder(folder).read_summary()),
        ("metrics.csv", lambda folder: RunFolder(folder).read_metrics()),
        ("state.safetensors", lambda folder: RunFolder(folder).load_state()),
        ("split.json", lambda folder: Split.load(folder / "split.json")),
        ("image.nii", lambda folder: Cache(folder / "c").digest_of_files([folder / "image.nii"])),
    ],
)
def test_other_files(
    tmp_path: Path, name: str, use: Callable[[Path], Any], number: int, fix: str, scarce: Scarce
) -> None:
    (tmp_path / name).write_text("{}")
    scarce(tmp_path / name, number)
    with pytest.raises(SegprefError, match=fix) as caught:
        use(tmp_path)
    assert os.strerror(number) in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free some space on that disk"), (errno.EDQUOT, "larger quota"),
        (errno.EMFILE, "ulimit -n"), (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "that you may write to"), (errno.EACCES, "that you may write to"),
        (errno.EIO, "check that disk"),
    ],
)  # fmt: skip
def test_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fix: str) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    for use, place in (
        (lambda: write_atomically(tmp_path / "a.json", b"{}"), "mkstemp"),
        (lambda: Cache(tmp_path).entry({"a": 1}, lambda: {"images": np.ones(3)}), "mkdtemp"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"tempfile.{place}", fails)
            with pytest.raises(SegprefError, match=fix) as caught:
                use()
        assert os.strerror(number) in str(caught.value)
        assert str(tmp_path) in str(caught.value)


def test_an_image_that_is_read_is_not_mapped(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", grey((40, 50, 30)))
    reader = Images(tmp_path)
    case = reader.read(reader.sources()[0])
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert case.image.shape == (1, 40, 50, 30)
