"""Processes that were launched together prepare images side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segpref.data import Cache, Folders, Preparation, Source, prepare
from segpref.types import Case

INPUT = Preparation(dims=2, size=(16, 16))
HEART = ("background", "RV", "MYO", "LV")


class Noting(Folders):
    """Notes what is read from the disk."""

    seen: list[str]

    def read(self, source: Source) -> Case:
        self.seen.append(source.id)
        return super().read(source)


def test_a_process_begins_with_its_share_and_finds_the_others(
    heart_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Noting(heart_folder, names=HEART)
    reader.seen = []
    expected = prepare(reader, INPUT, Cache(tmp_path / "alone"))
    names, reader.seen = reader.seen, []
    assert len(names) == len(set(names)) > 4
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    assert len(prepare(reader, INPUT, Cache(tmp_path / "first"))) == len(expected)
    assert reader.seen == [*names[1::3], *names[2::3], *names[0::3]]
    # Beside the third process, which has prepared its share.
    store = Cache(tmp_path / "both")
    rest = [*names[0::3], *names[1::3]]
    third = Noting(heart_folder, names=HEART, exclude=rest)
    third.seen = []
    prepare(third, INPUT, store)
    reader.seen = []
    found = prepare(reader, INPUT, store)
    assert reader.seen == [*names[1::3], *names[0::3]]
    for one, other in zip(found, expected, strict=True):
        assert one.id == other.id
        np.testing.assert_array_equal(one.image, other.image)
