from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segpref.data import Cache, Dataset, Folders, Preparation, Reader, Source, prepare
from segpref.types import Case, LabelSpace, SegprefError

SPACE = LabelSpace("multi-class", ("background", "organ"))


class InMemory:
    """A reader whose files only lend their content to the cache's key."""

    patients_known = True

    def __init__(
        self, folder: Path, shapes: dict[str, tuple[int, ...]], labelled: bool = True
    ) -> None:
        self.label_space = SPACE if labelled else None
        self.channels = ("image",)
        self.shapes, self.folder, self.reads = shapes, folder, 0
        for name in shapes:
            (folder / name).write_text(name)

    def sources(self) -> list[Source]:
        files = {name: (self.folder / name,) for name in sorted(self.shapes)}
        labels = files if self.label_space else dict.fromkeys(files, ())
        return [
            Source(id=name, patient=name[:2], images=files[name], labels=labels[name])
            for name in files
        ]

    def read(self, source: Source) -> Case:
        self.reads += 1
        shape = self.shapes[source.id]
        image = np.random.default_rng(len(source.id)).normal(size=shape).astype(np.float32)
        label = (image[:1] > 0).astype(np.uint8) if self.label_space else None
        return Case(
            id=source.id, patient=source.patient, volume=source.id, image=image, label=label,
            spacing_mm=(1.0, 2.0, 8.0)[: len(shape) - 1],
        )  # fmt: skip


@pytest.fixture
def reader(tmp_path: Path) -> InMemory:
    return InMemory(tmp_path, {"p1-a": (1, 6, 5, 3), "p1-b": (1, 6, 5, 1), "p2-a": (1, 6, 5, 2)})


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "store")


def test_slices_are_cases_and_know_where_they_come_from(reader: InMemory, cache: Cache) -> None:
    dataset = prepare(reader, Preparation(), cache)
    ids = [one.id for one in dataset]
    assert ids == ["p1-a/s000", "p1-a/s001", "p1-a/s002", "p1-b", "p2-a/s000", "p2-a/s001"]
    assert [one.volume for one in dataset] == ["p1-a"] * 3 + ["p1-b"] + ["p2-a"] * 2
    assert dataset.patients == ("p1", "p2")
    one = dataset[1]
    assert one.image.shape == (1, 6, 5)
    assert one.spacing_mm == (1.0, 2.0)
    np.testing.assert_array_equal(one.label, dataset.volumes[0].labels[1])
    assert [c.id for c in dataset[3:5]] == ids[3:5]


def test_arrays_of_a_case_are_read_when_they_are_asked_for(reader: InMemory, cache: Cache) -> None:
    dataset = prepare(reader, Preparation(), cache)
    one, whole = dataset[4], np.asarray(dataset.volumes[2].images)
    pickled, other = pickle.loads(pickle.dumps(dataset[4])), replace(dataset[4], text="another")
    for file in cache.root.glob("*/*/images.npy"):
        os.truncate(file, 0)  # is made anew, and only then
    assert one.id == "p2-a/s000"
    assert all(file.stat().st_size == 0 for file in cache.root.glob("*/*/images.npy"))
    for case in (one, pickled, other):
        np.testing.assert_array_equal(case.image, whole[0])
        assert case.image is case.image
    with pytest.raises(ValueError, match="read-only"):
        one.image[0] = 1
    assert (other.text, other.label is None, pickled.label is None) == ("another", False, False)
    with pytest.raises(AttributeError, match="a case has no shape"):
        _ = one.shape


def test_parts_of_a_dataset(reader: InMemory, cache: Cache) -> None:
    dataset = prepare(reader, Preparation(), cache)
    assert [one.id for one in dataset.of_patients(["p2"])] == ["p2-a/s000", "p2-a/s001"]
    chosen = dataset.take([5, 0])
    assert [one.id for one in chosen] == ["p2-a/s001", "p1-a/s000"]
    assert chosen.patients == ("p1", "p2")
    assert [(volume.source.id, items) for volume, items in chosen.by_volume()] == [
        ("p2-a", [1]),
        ("p1-a", [0]),
    ]
    bare = chosen.without_labels()
    assert [one.id for one in bare] == [one.id for one in chosen]
    assert all(one.label is None for one in bare)
    assert all(one.label is not None for one in chosen)
    assert len(bare.labelled()) == 0
    assert len(dataset.labelled()) == len(dataset)
    with pytest.raises(SegprefError, match="has no patient p9"):
        dataset.of_patients(["p9"])


def test_partly_labelled(reader: InMemory, cache: Cache) -> None:
    volumes = prepare(reader, Preparation(), cache).volumes
    dataset = Dataset([replace(volumes[0], labels=None), *volumes[1:]], SPACE)
    assert [one.id for one in dataset.labelled()] == ["p1-b", "p2-a/s000", "p2-a/s001"]


def test_a_second_preparation_reads_no_image(reader: InMemory, cache: Cache) -> None:
    first = prepare(reader, Preparation(), cache)
    assert reader.reads == 3
    again = prepare(reader, Preparation(), cache)
    assert reader.reads == 3
    np.testing.assert_array_equal(first[0].image, again[0].image)
    prepare(reader, Preparation(normalise="z-score"), cache)
    assert reader.reads == 6


def test_a_changed_file_is_read_again(reader: InMemory, cache: Cache) -> None:
    prepare(reader, Preparation(), cache)
    file = reader.folder / "p1-b"
    file.write_text("b-1p")
    os.utime(file, ns=(5, 5))
    prepare(reader, Preparation(), cache)
    assert reader.reads == 4


def test_what_a_reader_is_told_is_part_of_the_key(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
        gray = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
        Image.fromarray(gray).save(tmp_path / "data" / name / "a.png")
    cache = Cache(tmp_path / "store")
    sizes = []
    for threshold in (50, 150):
        reader = Folders(tmp_path / "data", names=("background", "organ"), threshold=threshold)
        label = prepare(reader, Preparation(), cache)[0].label
        sizes.append(int(label.sum()))
    assert sizes[0] > sizes[1] > 0


def test_sources_of_one_file_are_told_apart(reader: InMemory, cache: Cache) -> None:
    before = prepare(reader, Preparation(), cache)
    # Where there is nothing to tell, the key says nothing of it: what is prepared stays valid.
    assert all("source" not in volume.key for volume in before.volumes)
    first = reader.sources()[0]
    keys = set()
    for key in (None, "nodule 0", "nodule 1"):
        reader.sources = lambda key=key: [replace(first, key=key)]  # type: ignore[method-assign]
        keys.add(str(prepare(reader, Preparation(), cache).volumes[0].key))
    assert len(keys) == 3


def test_shapes_must_agree(tmp_path: Path, cache: Cache) -> None:
    reader = InMemory(tmp_path, {"a": (1, 6, 5), "b": (1, 6, 7)})
    with pytest.raises(
        SegprefError, match=r"b is \(6, 7\) voxels and a \(6, 5\): set crop or size"
    ):
        prepare(reader, Preparation(), cache)
    assert len(prepare(reader, Preparation(crop=(6, 6)), cache)) == 2


def test_channels_must_agree(tmp_path: Path, cache: Cache) -> None:
    reader = InMemory(tmp_path, {"a": (1, 6, 5), "b": (2, 6, 5)})
    with pytest.raises(SegprefError, match="b has 2 channels but a has 1"):
        prepare(reader, Preparation(), cache)


def test_images_without_labels_need_a_label_space(tmp_path: Path, cache: Cache) -> None:
    reader = InMemory(tmp_path, {"a": (1, 6, 5)}, labelled=False)
    with pytest.raises(SegprefError, match="name the label space"):
        prepare(reader, Preparation(), cache)
    dataset = prepare(reader, Preparation(), cache, SPACE)
    assert dataset.label_space == SPACE
    assert dataset[0].label is None


def test_no_image_at_all(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(SegprefError, match="has no images"):
        prepare(InMemory(tmp_path, {}), Preparation(), cache)


def test_the_reader_of_this_test_is_one(reader: InMemory) -> None:
    assert isinstance(reader, Reader)


def test_a_message_names_the_folder_and_no_object(tmp_path: Path) -> None:
    reader = InMemory(tmp_path, {"a": (1, 8, 8)}, labelled=False)
    with pytest.raises(SegprefError, match="has no labels: name the label space") as found:
        prepare(reader, Preparation(), Cache(tmp_path / "cache"))
    assert str(found.value).startswith(f"{tmp_path} has")
    nothing = InMemory(tmp_path, {})
    with pytest.raises(SegprefError, match=r"^the dataset \(InMemory\) has no images"):
        prepare(nothing, Preparation(), Cache(tmp_path / "cache"))
