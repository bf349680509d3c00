from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flips import flip
from segpref.data import Cache, file_digest, key_digest, sweep_partial, write_atomically
from segpref.types import SegprefError
from waiting import FAILED_S

KEY = {"what": "test", "number": 3}


def arrays() -> dict[str, np.ndarray]:
    return {"images": np.arange(12.0).reshape(3, 4), "labels": np.zeros((2, 2), np.uint8)}


def never() -> dict[str, np.ndarray]:
    raise AssertionError("computed again")


def entry_folder(cache: Cache) -> Path:
    (note,) = cache.root.glob("*/*/key.json")
    return note.parent


def test_an_entry_is_computed_once_and_read_when_it_is_asked_for(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "store")
    assert not cache.has(KEY)
    first = cache.entry(KEY, arrays)
    again = Cache(tmp_path / "store").entry(dict(reversed(KEY.items())), never)
    assert cache.has(KEY)
    for name, array in arrays().items():
        for found in (first, again):
            assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
            np.testing.assert_array_equal(found[name], array)
            np.asarray(found[name])[0] = 1  # a copy
            np.testing.assert_array_equal(found[name], array)


def test_keys_differ_where_any_part_differs() -> None:
    variants: list[dict[str, Any]] = [
        KEY, {**KEY, "number": 4}, {**KEY, "more": None}, {"what": "test"}, {**KEY, "number": "3"},
    ]  # fmt: skip
    assert len({key_digest(variant) for variant in variants}) == len(variants)


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "garbage", "note", "pickle"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    cache.entry(KEY, arrays)
    file = entry_folder(cache) / "images.npy"
    if damage == "missing":
        file.unlink()
    elif damage == "note":
        (entry_folder(cache) / "key.json").write_text("{")
    elif damage == "pickle":
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        whole = file.read_bytes()
        content = {"truncated": whole[:-9], "empty": b"", "garbage": b"not an array"}[damage]
        file.write_bytes(content)
    np.testing.assert_array_equal(cache.entry(KEY, arrays)["images"], arrays()["images"])
    cache.entry(KEY, never)


def test_a_failure_while_computing_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(AssertionError, match="computed again"):
        cache.entry(KEY, never)
    with pytest.raises(ValueError, match="pickle"):
        cache.entry(KEY, lambda: {"images": np.array([{}], dtype=object)})
    assert not cache.has(KEY)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _race(root: Path, both: Any, seen: Any) -> None:
    def compute() -> dict[str, np.ndarray]:
        both.wait()  # neither has written before both have looked
        return arrays()

    seen.put(float(np.sum(Cache(root).entry(KEY, compute)["images"])))


def test_two_processes_may_make_the_same_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    seen = context.Queue()
    both = context.Barrier(2, timeout=FAILED_S)
    racers = [context.Process(target=_race, args=(tmp_path, both, seen)) for _ in range(2)]
    for racer in racers:
        racer.start()
    sums = [seen.get(timeout=FAILED_S) for _ in racers]
    for racer in racers:
        racer.join()
    assert sums == [66.0, 66.0]
    assert len(list(tmp_path.glob("*/*"))) == 1
    Cache(tmp_path).entry(KEY, never)


def test_a_slower_process_leaves_the_entry_of_a_faster_one(tmp_path: Path) -> None:
    slow, faster = Cache(tmp_path), Cache(tmp_path)
    written: list[os.stat_result] = []

    def compute() -> dict[str, np.ndarray]:
        # The faster one writes while the slower one still computes.
        faster.entry(KEY, arrays)
        written.append((entry_folder(faster) / "images.npy").stat())
        return arrays()

    np.testing.assert_array_equal(slow.entry(KEY, compute)["images"], arrays()["images"])
    now = (entry_folder(slow) / "images.npy").stat()
    assert (now.st_ino, now.st_mtime_ns) == (written[0].st_ino, written[0].st_mtime_ns)


class _Deadly:
    """Numbers whose reading ends the process."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        os.kill(os.getpid(), 9)
        raise AssertionError


def _die_while_writing(root: Path) -> None:
    # Written in this order.
    Cache(root).entry(KEY, lambda: {"images": arrays()["images"], "labels": _Deadly()})


def test_a_killed_writer_leaves_no_entry(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(
        target=_die_while_writing, args=(tmp_path,)
    )
    writer.start()
    writer.join()
    assert writer.exitcode == -9
    assert list(tmp_path.rglob("*.npy")), "it was killed too early to show anything"
    cache = Cache(tmp_path)
    assert not cache.has(KEY)
    np.testing.assert_array_equal(cache.entry(KEY, arrays)["images"], arrays()["images"])


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))
    return path


def test_opening_sweeps_what_killed_writers_left_a_day_ago(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(
        target=_die_while_writing, args=(tmp_path,)
    )
    writer.start()
    writer.join()
    (array,) = tmp_path.rglob("*.npy")
    left = array.parent
    Cache(tmp_path)
    assert array.exists(), "a fresh one may be another process's that is writing now"
    aged(left, 1.1)
    Cache(tmp_path)
    assert not left.exists()
    Cache(tmp_path).entry(KEY, arrays)
    aged(entry_folder(Cache(tmp_path)), 900)
    Cache(tmp_path).entry(KEY, never)


def test_sweeping_lists_one_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "store")
    image = tmp_path / "image.nii"
    image.write_bytes(b"voxels")
    begun: list[Path] = []

    def seen(make: Any) -> Any:
        def made(*args: Any, **options: Any) -> Any:
            begun.append(Path(options["dir"]))
            return make(*args, **options)

        return made

    for name in ("mkdtemp", "mkstemp"):
        monkeypatch.setattr(tempfile, name, seen(getattr(tempfile, name)))
    cache.entry(KEY, arrays)
    cache.digest_of_files([image])
    assert begun == [cache.root / "partial"] * 2
    listed: list[Path] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path)) or scan(path))
    Cache(cache.root)
    assert listed == begun[:1]


def test_two_processes_may_sweep_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / f".{name}.partial").mkdir()
        aged(tmp_path / f".{name}.partial", 2)
    remove = shutil.rmtree

    def faster(path: str, **options: Any) -> None:
        for other in tmp_path.iterdir():
            remove(other)
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", faster)
    sweep_partial(tmp_path)
    assert not list(tmp_path.iterdir())
    sweep_partial(tmp_path / "nowhere")


def test_entries_of_a_shared_store_may_be_read_by_others(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.entry(KEY, arrays)
    assert entry_folder(cache).stat().st_mode & 0o055 == 0o055


def test_an_image_that_can_not_be_read_is_one_clear_sentence(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "store")
    missing, circle = tmp_path / "missing.nii", tmp_path / "circle.nii"
    circle.symlink_to(circle)
    for path in (missing, circle):
        with pytest.raises(SegprefError, match=r"can't be read .*: restore it") as caught:
            cache.digest_of_files([path])
        assert str(path) in str(caught.value)


def test_changed_content_changes_the_digest_of_files(tmp_path: Path) -> None:
    cache, file, other = Cache(tmp_path / "store"), tmp_path / "a.bin", tmp_path / "b.bin"
    file.write_bytes(b"one")
    other.write_bytes(b"two")
    before = cache.digest_of_files([file, other])
    assert cache.digest_of_files([file, other]) == before
    assert cache.digest_of_files([other, file]) != before
    file.write_bytes(b"eno")
    os.utime(file, ns=(1, 1))
    assert cache.digest_of_files([file, other]) != before
    file.write_bytes(b"one")
    assert cache.digest_of_files([file, other]) == before


@pytest.mark.parametrize("bit", range(8))
def test_a_remembered_digest_is_checked(tmp_path: Path, bit: int) -> None:
    image = tmp_path / "image.nii"
    image.write_bytes(b"voxels")
    before = Cache(tmp_path / "store").digest_of_files([image])
    (note,) = (tmp_path / "store" / "files").iterdir()
    whole = note.read_bytes()
    for place in range(len(whole)):
        flip(note, place / len(whole) + 1e-9, bit)
        assert Cache(tmp_path / "store").digest_of_files([image]) == before
        assert note.read_bytes() == whole


def test_the_digest_is_of_content_not_of_names(tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"slice")
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(b"slice")
    assert file_digest(copy) == file_digest(series / "1.dcm")
    cache = Cache(tmp_path / "store")
    before = cache.digest_of_files([series])
    assert before == cache.digest_of_files([copy])
    (series / "2.dcm").write_bytes(b"another")
    assert cache.digest_of_files([series]) != before


def test_a_file_in_place_of_the_cache_is_one_clear_sentence(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.write_text("in the way")
    image = tmp_path / "image.nii"
    image.write_bytes(b"voxels")
    for use in (
        lambda: Cache(root).entry(KEY, arrays),
        lambda: Cache(root).digest_of_files([image]),
    ):
        with pytest.raises(SegprefError, match="--cache") as caught:
            use()
        assert str(root) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(SegprefError, match="choose a folder"):
        write_atomically(path / "below", b"x")


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SegprefError, match="free some space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
