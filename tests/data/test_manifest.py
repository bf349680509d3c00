"""Tables that list images: what they may look like, and one sentence for each that can't be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segpref.data import Folders, images_for, write_pack
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.types import SegprefError


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(30, dtype=np.uint8).reshape(5, 6) + np.uint8(value)
    Image.fromarray(pixels).save(path)
    return path


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        path.write_text("\n".join(",".join(map(str, line)) for line in lines))
    return path


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_paths_are_relative_to_the_table_or_absolute(tmp_path: Path, form: str) -> None:
    near, far = picture(tmp_path / "lists/sub/b.png", 3), picture(tmp_path / "far/a.png", 7)
    rows = [{"image": "sub/b.png", "note": "x"}, {"image": str(far), "note": "y"}]
    reader = images_for(table(tmp_path / f"lists/pool.{form}", rows), ("image",))
    assert [(one.id, one.images) for one in reader.sources()] == [("a", (far,)), ("b", (near,))]
    assert reader.read(reader.sources()[1]).image[0, 0, 0] == 3


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_ids_of_a_table_tell_files_of_one_name_apart(tmp_path: Path, form: str) -> None:
    for place in "xy":
        picture(tmp_path / place / "scan.png")
    rows = [{"image": f"{place}/scan.png", "id": number} for number, place in enumerate("xy", 11)]
    reader = images_for(table(tmp_path / f"pool.{form}", rows), ("image",))
    assert [one.id for one in reader.sources()] == ["11", "12"]


def test_a_column_for_each_channel(tmp_path: Path) -> None:
    for number in range(2):
        picture(tmp_path / f"{number}.png", number)
    path = table(tmp_path / "pool.csv", [{"image_0001": "1.png", "id": "a", "image_0000": "0.png"}])
    reader = images_for(path, ("T1", "T2"))
    (source,) = reader.sources()
    assert [file.name for file in source.images] == ["0.png", "1.png"]
    assert reader.read(source).image[:, 0, 0].tolist() == [0, 1]


REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no column": ([{"file": "a.png"}], r"no column image \(its columns: file\): name the column"),
    "no file": ([{"image": "a.png"}, {"image": "b.png"}], r"row 2 names .*b\.png, which does not"),
    "empty": (
        [{"image": "a.png", "id": "a"}, {"image": "", "id": "b"}],
        r"row 2 names no file as image: add its path",
    ),
    "one id": (
        [{"image": "a.png", "id": "x"}, {"image": "c.png", "id": "x"}],
        r"rows 1 and 2 both have the id x: correct one of them",
    ),
    "one name": (
        [{"image": "a.png"}, {"image": "d/a.png"}],
        r"rows 1 and 2 both have the id a: add a column id that tells them apart",
    ),
    "no id": ([{"image": "a.png", "id": "a/b"}], r"row 1 has the id 'a/b', which can't be a file"),
    "both": ([{"image": "a.png", "image_0000": "a.png"}], "the column image and image_0000: keep"),
    "gap": ([{"image_0000": "a.png", "image_0002": "a.png"}], "image_0002 but not image_0001"),
    "channels": (
        [{"image_0000": "a.png", "image_0001": "a.png"}],
        r"2 columns of images .* where images of 1 channel files are wanted: give one column",
    ),
}


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_table_lacks_is_one_sentence(tmp_path: Path, kind: str, form: str) -> None:
    for name in ("a.png", "c.png", "d/a.png"):
        picture(tmp_path / name)
    rows, sentence = REFUSED[kind]
    path = table(tmp_path / f"pool.{form}", rows)
    with pytest.raises(SegprefError, match=sentence) as caught:
        images_for(path, ("image",))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("pool.csv", b"", "no column image"),
        ("pool.csv", b"image\n", "lists no image"),
        ("pool.csv", b"image,id\na.png\n", "row 1 has 1 cells where 2 are due"),
        ("pool.csv", b"image\n\xff\xfe\n", "is not UTF-8 text"),
        ("pool.parquet", b"PAR1 no more", "is not a table"),
    ],
)
def test_what_is_no_table_is_one_sentence(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SegprefError, match=sentence) as caught:
        images_for(tmp_path / name, ("image",))
    assert "\n" not in str(caught.value)


@given(content=st.binary(max_size=60), form=st.sampled_from(["csv", "parquet"]))
def test_whatever_a_table_holds_is_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, form: str
) -> None:
    path = tmp_path_factory.mktemp("tables") / f"pool.{form}"
    path.write_bytes(b"image\n" + content if form == "csv" else content)
    with pytest.raises(SegprefError):
        images_for(path, ("image",))


def test_a_pack_is_read_without_its_labels(tmp_path: Path, heart_folder: Path) -> None:
    dataset = Folders(heart_folder, patient_pattern=PATIENT_PATTERN, exclude="phantom00[1-9]*")
    write_pack(dataset, tmp_path / "pack")
    reader = images_for(tmp_path / "pack", ("image",))
    assert reader.label_space is None
    assert [one.id for one in reader.sources()] == [one.id for one in dataset.sources()]
    first = reader.read(reader.sources()[0])
    assert first.label is None
    wanted = np.asarray(dataset.read(dataset.sources()[0]).image)
    assert np.allclose(first.image, wanted, atol=np.ptp(wanted) / 500)
    with pytest.raises(SegprefError, match=r"images of 1 channels .*, but 2 are expected"):
        images_for(tmp_path / "pack", ("T1", "T2"))
