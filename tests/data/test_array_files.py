"""Arrays that stay on disk until a part of them is asked for."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flips import flip
from segpref.data import ArrayFile, ArrayNote, ArrayWriter, Cache, StoredArray, write_array
from segpref.disk import from_checked_json, to_checked_json
from segpref.types import SegprefError, Window

KEY = {"what": "test"}


def opened() -> list[str]:
    """What this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(str(link.readlink()))
    return found


def refused(note: ArrayNote, reason: str) -> ArrayNote:
    raise SegprefError(f"damaged: {reason}")


def on_disk(folder: Path, array: np.ndarray) -> StoredArray:
    note = write_array(folder / "a.npy", array, "choose another folder")
    again = ArrayNote.from_json(json.loads(json.dumps(note.to_json())))
    return StoredArray(ArrayFile(folder / "a.npy", again, refused))


@pytest.mark.parametrize("dtype", ["float32", "uint8", ">i2", "bool", "complex64"])
def test_every_part_is_what_numpy_gives(tmp_path: Path, dtype: str) -> None:
    array = (np.random.default_rng(0).random((4, 2, 5, 6, 7)) * 200).astype(dtype)
    stored = on_disk(tmp_path, array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)
    assert (stored.shape, stored.dtype, stored.ndim, len(stored)) == ((4, 2, 5, 6, 7), dtype, 5, 4)
    keys: list[Any] = [
        2, -1, np.int64(1), slice(1, 3), slice(None), slice(3, 0, -2), slice(9, 20), [3, 0, 0], [],
        np.array([1, -1]), (slice(None), 1), (1, slice(None), slice(1, 4), slice(2, 5), slice(3, 6)),
        (1, 0, 2, 3, 4), (0, slice(None), -1, slice(None, None, -1), slice(None, None, 2)),
        (..., slice(0, 2)), (1, ..., 3), ..., (), (slice(0, 0), 1),
        (slice(None), slice(None), slice(None), slice(None), slice(2, 3)),
    ]  # fmt: skip
    for key in keys:
        found = stored[key]
        np.testing.assert_array_equal(found, array[key])
        assert found.shape == array[key].shape
        assert not found.ndim or found.dtype == array.dtype
    np.testing.assert_array_equal(stored.at(-3)[1, :, 2:4], array[1, 1, :, 2:4])
    np.testing.assert_array_equal(np.stack(list(stored)), array)
    for key in (4, (0, 2), (0,) * 6, (0, [1]), "x"):
        with pytest.raises(IndexError):
            stored[key]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,)])
def test_empty_and_single_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, np.float32)
    stored = on_disk(tmp_path, array)
    np.testing.assert_array_equal(np.asarray(stored), array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)


def test_arrays_of_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle"):
        write_array(tmp_path / "a.npy", np.array([{}], object), "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mirrored", [(), (0, 2)])
def test_a_window_reads_its_blocks_and_no_more(
    tmp_path: Path, mirrored: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.random.default_rng(0).random((2, 40, 30, 20)).astype(np.float32)
    stored = on_disk(tmp_path, array[None]).at(0)
    window = Window((5, 25, -3), (8, 10, 12), (40, 30, 20), mirrored)
    stored[0, 0, 0]  # checked, which reads the whole file once
    read: list[int] = []

    class Counted(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            read.append(len(buffer))
            return super().readinto(buffer)

    monkeypatch.setattr(io, "FileIO", Counted)
    np.testing.assert_array_equal(window.cut(stored, 7.0), window.cut(array, 7.0))
    # Of 2 channels and 8 planes the 5 rows that lie in the image, with all of their 20 voxels.
    assert read == [5 * 20 * 4] * 16
    read.clear()
    stored[:]
    assert read == [array.nbytes]


def test_nothing_is_open_between_two_reads(tmp_path: Path) -> None:
    stored = on_disk(tmp_path, np.ones((3, 4)))
    kept = [stored[i] for i in range(3)]
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert str(tmp_path) not in str(opened())
    assert len(kept) == 3


def test_a_handle_goes_to_another_process(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    handle = cache.entry(KEY, lambda: {"images": np.arange(6.0)})["images"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(handle)), np.arange(6.0))
    (file,) = tmp_path.glob("*/*/images.npy")
    flip(file)
    with pytest.raises(SegprefError, match="run the command again, which rebuilds it"):
        np.asarray(pickle.loads(pickle.dumps(handle)))


def test_a_writer_says_what_is_missing(tmp_path: Path) -> None:
    writer = ArrayWriter(tmp_path / "a.npy", np.dtype("f4"), (3, 2), "")
    writer.append(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="were written where"):
        writer.close()


# Damage in the cache -------------------------------------------------------------------------


class Counting:
    """Arrays of an entry, and how often they were made."""

    calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"images": np.arange(24.0).reshape(2, 3, 4), "labels": np.ones((2, 3), np.uint8)}


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 0.999])
@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "key.json"])
def test_a_flipped_bit_is_found_and_the_entry_made_anew(
    tmp_path: Path, name: str, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    made = Counting()
    Cache(tmp_path).entry(KEY, made)
    (file,) = tmp_path.glob(f"*/*/{name}")
    for bit in range(8):
        flip(file, share, bit)
        with caplog.at_level(logging.WARNING):
            found = Cache(tmp_path).entry(KEY, made)
            for array, right in made().items():
                np.testing.assert_array_equal(found[array], right)
        if name != "key.json":
            assert str(file) in caplog.text
        caplog.clear()
    before = made.calls
    found = Cache(tmp_path).entry(KEY, made)
    for array in found.values():
        np.asarray(array)
    assert made.calls == before, "what was made anew is sound and stays"
    assert not list((tmp_path / "partial").iterdir())


def test_opening_does_not_read_the_arrays(tmp_path: Path) -> None:
    made = Counting()
    Cache(tmp_path).entry(KEY, made)
    (file,) = tmp_path.glob("*/*/images.npy")
    flip(file)
    found = Cache(tmp_path).entry(KEY, made)
    assert found["images"].shape == (2, 3, 4)
    np.testing.assert_array_equal(found["labels"], 1)
    assert made.calls == 1
    np.asarray(found["images"])
    assert made.calls == 2


def test_a_file_that_is_cut_while_in_use_is_made_anew(tmp_path: Path) -> None:
    made = Counting()
    found = Cache(tmp_path).entry(KEY, made)["images"]
    np.asarray(found)
    (file,) = tmp_path.glob("*/*/images.npy")
    os.truncate(file, 130)
    np.testing.assert_array_equal(found[1], made()["images"][1])
    file.unlink()
    np.testing.assert_array_equal(found[0], made()["images"][0])


def test_two_handles_of_a_damaged_entry_make_it_anew_once(tmp_path: Path) -> None:
    made = Counting()
    Cache(tmp_path).entry(KEY, made)
    for file in tmp_path.glob("*/*/*.npy"):
        flip(file)
    found = Cache(tmp_path).entry(KEY, made)
    np.testing.assert_array_equal(found["images"], made()["images"])
    np.testing.assert_array_equal(found["labels"], made()["labels"])
    assert made.calls == 2 + 2  # two of them by this test


def test_a_disk_that_does_not_keep_what_is_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def damaged(self: Path, target: Path) -> Path:
        for file in [] if target.exists() else self.glob("images.npy"):
            flip(file)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", damaged)
    found = Cache(tmp_path).entry(KEY, Counting())
    with pytest.raises(SegprefError, match="check that disk") as caught:
        np.asarray(found["images"])
    assert "images.npy" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("digest"),
        lambda content: content.update(arrays=["images", "labels"]),
    ],
)
def test_an_entry_of_an_earlier_version_is_made_anew(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    made = Counting()
    Cache(tmp_path).entry(KEY, made)
    (note,) = tmp_path.glob("*/*/key.json")
    content = json.loads(note.read_bytes())
    change(content)
    note.write_text(json.dumps(content))
    np.testing.assert_array_equal(Cache(tmp_path).entry(KEY, made)["images"], made()["images"])
    assert from_checked_json(note.read_bytes())["arrays"]["images"]["shape"] == [2, 3, 4]


@pytest.mark.parametrize("name", ["../images", "/etc/passwd", "a/b", "..", "", "a.b", "a\\b"])
def test_a_note_does_not_lead_out_of_its_entry(tmp_path: Path, name: str) -> None:
    made = Counting()
    Cache(tmp_path).entry(KEY, made)
    (path,) = tmp_path.glob("*/*/key.json")
    content = from_checked_json(path.read_bytes())
    content["arrays"][name] = content["arrays"].pop("images")
    path.write_bytes(to_checked_json(content))
    found = Cache(tmp_path).entry(KEY, made)
    assert set(found) == {"images", "labels"}


@pytest.mark.parametrize(
    "change",
    [{"dtype": "O"}, {"dtype": "V8"}, {"dtype": 3}, {"shape": [-2, 3, 4]}, {"shape": [True, 3, 4]},
     {"shape": [10**30, 4]}, {"offset": -1}, {"digest": None}, {"shape": 7}],
)  # fmt: skip
def test_a_note_of_something_else_is_not_followed(tmp_path: Path, change: dict[str, Any]) -> None:
    made = Counting()
    Cache(tmp_path).entry(KEY, made)
    (path,) = tmp_path.glob("*/*/key.json")
    content = from_checked_json(path.read_bytes())
    content["arrays"]["images"].update(change)
    path.write_bytes(to_checked_json(content))
    found = Cache(tmp_path).entry(KEY, made)
    np.testing.assert_array_equal(found["images"], made()["images"])


# Errors of the machine ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.EMFILE, "ulimit -n"), (errno.ENFILE, "open files"), (errno.ENOMEM, "memory"),
        (errno.EACCES, "permission"), (errno.EIO, "check that disk"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["note", "array"])
def test_an_error_of_the_machine_says_what_it_is_and_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fix: str, place: str
) -> None:
    made = Counting()
    Cache(tmp_path).entry(KEY, made)
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if place == "note":
            patch.setattr(Path, "read_bytes", fails)
        else:
            patch.setattr(io, "FileIO", fails)
        with pytest.raises(SegprefError, match=fix) as caught:
            np.asarray(Cache(tmp_path).entry(KEY, made)["images"])
    assert os.strerror(number) in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there
    assert made.calls == 1


def test_too_many_open_files_is_said_and_deletes_nothing(tmp_path: Path) -> None:
    made = Counting()
    Cache(tmp_path).entry(KEY, made)
    there = sorted(tmp_path.rglob("*"))
    found = Cache(tmp_path).entry(KEY, made)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(opened()) + 8, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for use in (
            lambda: np.asarray(found["images"]), lambda: Cache(tmp_path).entry(KEY, made),
            lambda: Cache(tmp_path).entry({"what": "new"}, made),
        ):  # fmt: skip
            with pytest.raises(SegprefError, match=r"Too many open files.*ulimit -n"):
                use()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(found["images"], made()["images"])
    assert set(there) <= set(tmp_path.rglob("*"))


_MANY = """
import os, resource, sys
from pathlib import Path
import numpy as np
from segpref.data import Cache
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
cache, kept = Cache(Path(sys.argv[1])), []
for number in range(3000):
    for what in ("images", "logits"):
        made = {what: np.full((1, 2, 4), number, np.float32)}
        kept.append(cache.entry({"what": what, "number": number}, lambda made=made: made)[what])
assert all((np.asarray(one) == place // 2).all() for place, one in enumerate(kept))
assert len(os.listdir("/proc/self/fd")) < 64
assert not [line for line in open("/proc/self/maps") if sys.argv[1] in line]
print("all of", len(kept))
"""


@pytest.mark.slow
def test_thousands_of_arrays_need_no_descriptors_and_no_maps(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MANY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "all of 6000" in done.stdout
