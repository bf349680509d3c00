"""What each image of a pool costs before it is used, and that small lists of images lose nothing."""

from __future__ import annotations

import gc
import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from segpref.data import (
    Cache,
    Dataset,
    Folders,
    PredictionStore,
    Preparation,
    Source,
    SourceList,
    key_digest,
    prepare,
)
from segpref.types import LabelSpace, SegprefError

SPACE = LabelSpace("multi-class", ("background", "organ"))
COUNT = 200
FORM = Preparation(dims=2, size=(16, 16))


class Bright:
    """A network whose logits are the image."""

    label_space = SPACE

    def logits(self, images: Tensor) -> Tensor:
        return torch.cat([-images, images], dim=1)

    def digest(self) -> str:
        return "bright"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few images, and a pool of many, prepared."""
    root = tmp_path_factory.mktemp("pools")
    pixels = np.random.default_rng(0).integers(0, 255, (COUNT, 16, 16), np.uint8)
    for name, count in (("few", 2), ("many", COUNT)):
        for kind in ("images", "labels"):
            (root / name / kind).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(pixels[number]).save(root / name / "images" / f"case{number:05d}.png")
        opened(root, name)
    return root


def opened(root: Path, name: str = "many") -> Dataset:
    return prepare(Folders(root / name, names=SPACE.names), FORM, Cache(root / "cache"))


def kept_bytes(act: Callable[[], Any]) -> float:
    """Per image of the pool, by what the act gives and by what it leaves elsewhere.

    A block of a megabyte is none of the pool's, but one of the interpreter's own tables that has grown.
    """
    gc.collect()
    tracemalloc.start()
    kept = act()
    gc.collect()
    traces = tracemalloc.take_snapshot().traces
    tracemalloc.stop()
    assert kept is not None
    return sum(one.size for one in traces if one.size < 2**20) / COUNT


def test_an_image_of_a_pool_takes_few_bytes(folder: Path) -> None:
    opened(folder, "few")  # what is imported and remembered at the first use
    assert kept_bytes(lambda: opened(folder)) < 300


def test_more_uses_of_a_pool_take_next_to_nothing(folder: Path, tmp_path: Path) -> None:
    pool = opened(folder)
    first = PredictionStore(Bright(), "logits", Cache(tmp_path))
    first.prepare(pool)
    store = PredictionStore(Bright(), "logits", Cache(tmp_path))

    def used() -> Any:
        for number in range(3):
            store.prepare(pool)
            store.prepare(pool.take([number]))
        return store, pool.without_labels(), pool.by_volume(), pool.take(range(0, COUNT, 2))

    assert kept_bytes(used) < 150
    for case in (pool[0], pool[COUNT - 1]):
        np.testing.assert_array_equal(store[case][1:], case.image)


def test_another_process_gets_a_pool_in_few_bytes(folder: Path) -> None:
    pool = opened(folder)
    sent = pickle.dumps(pool)
    assert len(sent) / COUNT < 250
    there = pickle.loads(sent)
    assert [case.id for case in there] == [case.id for case in pool]
    assert there.digest() == pool.digest()
    np.testing.assert_array_equal(there[7].image, pool[7].image)


def test_another_process_rebuilds_nothing(folder: Path, tmp_path: Path) -> None:
    images = folder / "few"
    pool = prepare(Folders(images, names=SPACE.names), FORM, Cache(tmp_path))
    there = pickle.loads(pickle.dumps(pool))
    (broken,) = {path for path in tmp_path.rglob("*.npy") if _holds(path, pool[0].image)}
    broken.write_bytes(b"")
    with pytest.raises(SegprefError, match="run the command again, which rebuilds it"):
        _ = there[0].image
    np.testing.assert_array_equal(opened(folder, "few")[0].image, pool[0].image)
    rebuilt = prepare(Folders(images, names=SPACE.names), FORM, Cache(tmp_path))
    np.testing.assert_array_equal(rebuilt[0].image, pool[0].image)


def _holds(path: Path, image: np.ndarray) -> bool:
    return bool(np.array_equal(np.load(path)[0], image))


def test_a_file_is_checked_once_and_when_it_has_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = prepare(Folders(folder / "few", names=SPACE.names), FORM, Cache(tmp_path))
    checked = []
    check = __import__("hashlib").file_digest
    monkeypatch.setattr(
        "hashlib.file_digest", lambda file, *rest: checked.append(file.name) or check(file, *rest)
    )
    for case in (pool[0], pool[0], pool.without_labels()[0], pool.take([0])[0]):
        assert case.image.shape == (1, 16, 16)
    assert len(checked) == 1
    os.utime(checked[0], ns=(1, 1))
    image = pool[0].image
    assert len(checked) == 2
    checked[0].write_bytes(b"")
    np.testing.assert_array_equal(pool.without_labels()[0].image, image)


def test_the_digest_of_a_pool_is_that_of_one_list(folder: Path) -> None:
    for pool in (opened(folder), opened(folder, "few"), opened(folder).take([])):
        cases = [
            [volume.source.id, item, volume.key["content"]]
            for volume, items in pool.by_volume()
            for item in items
        ]
        assert pool.digest() == key_digest({"cases": cases})


LETTERS = st.sampled_from("aZ9._-é漢")
NAMES = st.text(LETTERS, min_size=1, max_size=9).filter(lambda name: name not in (".", ".."))
FILES = st.lists(
    st.text(st.sampled_from('a .\\\n"é漢😀'), min_size=1, max_size=9), min_size=1, max_size=3
).map(lambda parts: Path(*parts))
TEXTS = st.none() | st.text(st.sampled_from('a\0\n"é漢😀'), max_size=9)
SOURCES = st.builds(
    Source,
    id=NAMES,
    patient=NAMES,
    images=st.lists(FILES, min_size=1, max_size=2).map(tuple),
    labels=st.lists(FILES | FILES.map(Path("/data").joinpath), max_size=2).map(tuple),
    stratum=TEXTS,
    text=TEXTS,
    key=TEXTS,
)


@given(st.lists(SOURCES, max_size=5))
def test_a_list_of_sources_loses_nothing(sources: list[Source]) -> None:
    listed = SourceList(sources)
    assert list(listed) == sorted(sources, key=lambda source: source.id)
    assert listed[1:] == tuple(listed)[1:]
    assert [listed.id(number) for number in range(len(listed))] == [one.id for one in listed]
    assert [listed.patient(n) for n in range(len(listed))] == [one.patient for one in listed]
    assert list(pickle.loads(pickle.dumps(listed))) == list(listed)


def test_names_that_are_no_text_stay_what_they_are() -> None:
    path = Path(os.fsdecode(b"/data/\xff\xfe.png"))
    (one,) = SourceList([Source(id="a", patient="b", images=(path,), text="a\0b")])
    assert (one.images, one.text, one.patient) == ((path,), "a\0b", "b")
