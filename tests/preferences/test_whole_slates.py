"""Slates of whole images that are kept sparsely: windows, differences, files and dropped cases."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpref.preferences import (
    ScoredSlate,
    SparseSlate,
    WholeSlates,
    content_ids,
    write_whole_slates,
)
from segpref.types import IGNORE, Candidate, Case, SegprefError, Slate, Window


def made(seed: int, shape: tuple[int, ...], count: int = 5) -> Slate:
    """Masks of two fields that differ from the first one in few voxels."""
    rng = np.random.default_rng(seed)
    anchor = rng.integers(0, 3, (2, *shape)).astype(np.uint8)
    masks = np.repeat(anchor[None], count, axis=0)
    changed = rng.random(masks[1:].shape) < 0.1
    masks[1:][changed] = rng.integers(0, 3, int(changed.sum()))
    return Slate(masks, tuple(Candidate("made", {"number": n}) for n in range(count)))


def case(name: str) -> Case:
    return Case(id=name, patient=name, volume=name, image=np.zeros((1, 2, 2), np.float32))


@given(
    seed=st.integers(0, 100),
    start=st.tuples(*[st.integers(-3, 6)] * 3),
    mirrored=st.sets(st.integers(0, 2)),
)
def test_a_window_shows_what_it_shows_of_the_whole_masks(
    seed: int, start: tuple[int, ...], mirrored: set[int]
) -> None:
    shape = (6, 5, 7)
    slate = made(seed, shape)
    window = Window(
        tuple(min(at, full - 1) for at, full in zip(start, shape, strict=True)),
        (4, 4, 4),
        shape,
        tuple(sorted(mirrored)),
    )
    found = SparseSlate.of(slate).cut(window)
    assert np.array_equal(found.masks, window.cut(slate.masks, IGNORE))
    # The parts are named as the whole masks are.
    assert content_ids(found) == content_ids(slate)
    assert found.candidates == slate.candidates


def test_where_two_candidates_differ() -> None:
    slate = made(0, (6, 5))
    sparse = SparseSlate.of(slate)
    for first in range(5):
        for second in range(5):
            differs = np.flatnonzero(slate.masks[first] != slate.masks[second])
            assert sparse.differing(first, second).tolist() == differs.tolist()


def test_images_of_several_sizes_are_kept_and_dropped(tmp_path: Path) -> None:
    slates = {"a": made(1, (6, 5)), "b": made(2, (4, 9)), "c": made(3, (3, 3))}
    scores = np.arange(10.0).reshape(5, 2)
    scores[0] = np.nan
    folder = tmp_path / "set"
    write_whole_slates(
        folder, (ScoredSlate(case(name), slate, scores) for name, slate in slates.items())
    )
    kept = WholeSlates(folder)
    assert kept.cases == ("a", "b", "c")
    found = kept([1, 2], 7, 3)
    assert all(
        np.array_equal(one.masks, slates[name].masks)
        for one, name in zip(found.slates, "bc", strict=True)
    )
    assert np.array_equal(found.scores[0], scores, equal_nan=True)
    name = content_ids(slates["b"])[3]
    few = kept.sparse(1, {name})
    assert few.ids == (content_ids(slates["b"])[0], name)
    assert np.array_equal(few.whole().masks, slates["b"].masks[[0, 3]])
    assert kept.drop(lambda one: one == "b") == 1
    assert WholeSlates(folder).cases == ("a", "c")
    assert len(list(folder.glob("*.npy"))) == 6
    assert np.array_equal(WholeSlates(folder)([1], 0, 0).slates[0].masks, slates["c"].masks)
    assert kept.drop(lambda one: True) == 2
    assert not folder.exists()


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    write_whole_slates(tmp_path, [ScoredSlate(case("a"), made(1, (6, 5)), np.zeros((5, 2)))])
    file = tmp_path / "000000.value.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(SegprefError, match=r"000000\.value\.npy is not what was written"):
        WholeSlates(tmp_path)([0], 0, 0)


def test_a_file_is_verified_once_however_often_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole_slates(tmp_path, [ScoredSlate(case("a"), made(1, (6, 5)), np.zeros((5, 2)))])
    kept, hashed = WholeSlates(tmp_path), []
    real = hashlib.file_digest

    def counted(file: Any, kind: Any) -> Any:
        hashed.append(file)
        return real(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    for _ in range(3):
        kept.sparse(0).cut(Window((0, 0), (3, 3), (6, 5)))
    assert len(hashed) == 3
