"""Odd input that works: what a newcomer's folder may hold without being wrong."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from written import MM, dicom, grey, labels, nifti, picture, series

from segpref.data import (
    JSRT,
    Cache,
    Folders,
    Images,
    Preparation,
    images_for,
    open_dataset,
    prepare,
    source_id,
)
from segpref.types import SegprefError

CLASSES = ("background", "one", "two")
RGB = ("red", "green", "blue")


def test_one_time_point_is_a_volume(tmp_path: Path) -> None:
    nifti(tmp_path / "images" / "a.nii.gz", grey((5, 6, 4, 1)))
    nifti(tmp_path / "labels" / "a.nii.gz", labels((5, 6, 4), 3)[..., None, None])
    reader = Folders(tmp_path, names=CLASSES)
    case = reader.read(reader.sources()[0])
    assert np.array_equal(case.image[0], grey((5, 6, 4)))
    assert case.label is not None
    assert np.array_equal(case.label[0], labels((5, 6, 4), 3))
    assert case.spacing_mm == (1.5, 1.5, 8.0)


def scaled(path: Path, stored: np.ndarray, slope: float) -> None:
    """A NIfTI file of integers with a slope in its header, as many tools save label maps."""
    image = nib.Nifti1Image(stored, MM)
    image.header.set_slope_inter(slope, 0)
    image.header.set_data_dtype(stored.dtype)
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[112:116] = np.float32(slope).tobytes()
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize("names", [CLASSES, ()])
def test_labels_that_are_whole_but_for_rounding(tmp_path: Path, names: tuple[str, ...]) -> None:
    whole = labels((5, 6, 4), 3)
    for name, factor in (("a", 1.0000001), ("b", 0.9999999)):
        nifti(tmp_path / "images" / f"{name}.nii", grey((5, 6, 4)))
        nifti(tmp_path / "labels" / f"{name}.nii", (whole * factor).astype(np.float64))
    nifti(tmp_path / "images" / "c.nii", grey((5, 6, 4)))
    scaled(tmp_path / "labels" / "c.nii", whole * np.uint8(50), 0.02)
    reader = Folders(tmp_path, names=names)
    assert len(reader.label_space.names) == 3
    for source in reader.sources():
        label = reader.read(source).label
        assert label is not None
        assert np.array_equal(label[0], whole), source.id


def test_a_binary_mask_that_is_whole_but_for_rounding(tmp_path: Path) -> None:
    whole = labels((5, 6, 4), 2)
    nifti(tmp_path / "images" / "a.nii", grey((5, 6, 4)))
    nifti(tmp_path / "masks" / "organ" / "a.nii", (whole * 0.9999999).astype(np.float64))
    reader = Folders(tmp_path)
    label = reader.read(reader.sources()[0]).label
    assert label is not None
    assert np.array_equal(label[0], whole)


@pytest.mark.parametrize("slack", [0.01, 0.5])
def test_labels_that_were_interpolated_are_still_refused(tmp_path: Path, slack: float) -> None:
    wrong = labels((5, 6, 4), 3).astype(np.float32)
    wrong[2, 2, 2] = 1 + slack
    nifti(tmp_path / "images" / "a.nii", grey((5, 6, 4)))
    nifti(tmp_path / "labels" / "a.nii", wrong)
    reader = Folders(tmp_path, names=CLASSES)
    with pytest.raises(SegprefError, match=f"such as {1 + slack:g}: resample"):
        reader.read(reader.sources()[0])


def test_names_of_every_script(tmp_path: Path) -> None:
    names = ["été 1", "肺部", "心脏", "Грудь (2)", "a b"]
    for name in names:
        picture(tmp_path / "images" / f"{name}.png", grey((8, 8)))
        picture(tmp_path / "labels" / f"{name}.png", labels((8, 8), 3))
    reader = Folders(tmp_path, names=CLASSES)
    assert {source.id for source in reader.sources()} == {"été_1", "肺部", "心脏", "Грудь_2", "a_b"}
    dataset = prepare(reader, Preparation(), Cache(tmp_path / "cache"))
    assert len(dataset.labelled()) == 5
    assert {source.id for source in Images(tmp_path / "images").sources()} == set(dataset.patients)


def test_an_accent_is_the_same_in_both_ways_of_writing_it() -> None:
    composed = unicodedata.normalize("NFC", "étude")
    apart = unicodedata.normalize("NFD", "étude")
    assert composed != apart
    assert source_id(composed) == source_id(apart) == composed
    assert source_id("../a b/é?") == ".._a_b_é"


def test_a_folder_that_is_linked_into_itself(tmp_path: Path) -> None:
    series(tmp_path / "study" / "t1", grey((3, 4, 5), dtype=np.uint16))
    (tmp_path / "study" / "again").symlink_to(tmp_path / "study")
    (tmp_path / "study" / "t1" / "up").symlink_to(tmp_path / "study")
    assert [source.id for source in Images(tmp_path / "study").sources()] == ["t1"]


def test_files_beside_images_that_are_none(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", grey((8, 8)))
    for name in ("Thumbs.db", "desktop.ini", "notes.txt", ".DS_Store", "._a.png", "._s.dcm"):
        (tmp_path / name).write_bytes(b"x" * 200)
    (tmp_path / "folder.png").mkdir()
    assert [source.id for source in Images(tmp_path).sources()] == ["a"]
    for structure in JSRT.label_space.names:
        picture(tmp_path / "j" / "masks" / structure / "JPCLN001.png", labels((8, 8), 2))
        (tmp_path / "j" / "masks" / structure / "._JPCLN001.png").write_bytes(b"x")
    picture(tmp_path / "j" / "images" / "JPCLN001.png", grey((8, 8)))
    (tmp_path / "j" / "images" / "._JPCLN001.png").write_bytes(b"x")
    assert [source.id for source in JSRT(tmp_path / "j").sources()] == ["JPCLN001"]


def test_reports_among_radiographs_are_no_images(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", grey((4, 6), dtype=np.uint16), "1.2", None)
    report = dicom(tmp_path / "report.dcm", grey((4, 6), dtype=np.uint16), "1.3", None)
    whole = report.read_bytes().replace(
        b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.88"
    )
    # Rows (0028,0010) under another name: no pixels.
    report.write_bytes(whole.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x12\x00US"))
    assert [source.id for source in Images(tmp_path).sources()] == ["a"]


# Images for a model


def test_channels_that_are_given_need_no_look_at_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"damaged")
    picture(tmp_path / "b.png", grey((8, 8)))
    reader = Images(tmp_path, channels=("x-ray",))
    assert reader.channels == ("x-ray",)
    assert reader.read(reader.sources()[1]).image.shape == (1, 8, 8)
    with pytest.raises(SegprefError, match=r"a\.png is cut off"):
        reader.read(reader.sources()[0])


@pytest.mark.parametrize(
    ("channels", "of_grey", "of_colour"),
    [(("image",), 1, 1), (RGB, 3, 3), (("R", "G", "B"), None, 3), (("T1", "T2"), None, None)],
)
def test_pictures_have_the_colours_that_the_model_takes(
    tmp_path: Path, channels: tuple[str, ...], of_grey: int | None, of_colour: int | None
) -> None:
    picture(tmp_path / "colour.png", grey((4, 5, 3)))
    picture(tmp_path / "grey.png", grey((4, 5)))
    reader = images_for(tmp_path, channels)
    for source, count in zip(reader.sources(), (of_colour, of_grey), strict=True):
        if count is None:
            with pytest.raises(SegprefError, match=rf"{source.id}\.png has \d channels but"):
                reader.read(source)
        else:
            assert len(reader.read(source).image) == count


def test_numbered_files_are_channels_where_the_model_takes_several(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000"):
        nifti(tmp_path / f"{name}.nii", grey((4, 5, 6), len(name)))
    assert [len(s.images) for s in images_for(tmp_path, ("T1", "T2")).sources()] == [2, 2]
    assert [len(s.images) for s in images_for(tmp_path, ("T1",)).sources()] == [1, 1, 1]
    assert len(images_for(tmp_path / "a_0000.nii", ("T1", "T2")).sources()) == 1


# Leaving images out


def ultrasound(root: Path) -> Path:
    """As BUSI: masks beside their images, one of another size; names with spaces and brackets."""
    for number in range(1, 6):
        name = f"benign ({number})"
        picture(root / "benign" / f"{name}.png", grey((12, 10), number))
        picture(root / "benign" / f"{name}_mask.png", labels((12, 10), 2, number) * np.uint8(255))
    picture(root / "benign" / "benign (4)_mask_1.png", labels((9, 10), 2) * np.uint8(255))
    return root


def test_the_sentence_about_a_bad_mask_names_the_way_out(tmp_path: Path) -> None:
    reader = open_dataset(ultrasound(tmp_path))
    with pytest.raises(SegprefError) as caught:
        prepare(reader, Preparation(size=(8, 8)), Cache(tmp_path / "cache"))
    problem, _, mend = str(caught.value).partition(": ")
    assert (
        "benign (4)_mask_1.png has 9 x 10 pixels but its image benign (4).png has 12 x 10"
        in problem
    )
    assert (
        mend == "export both on one grid, or leave the image out with the option exclude=benign_4"
    )


@pytest.mark.parametrize("name", ["benign_4", "benign (4)"])
@pytest.mark.parametrize("alone", [True, False])
def test_an_image_is_left_out_by_its_id_or_its_name(tmp_path: Path, name: str, alone: bool) -> None:
    reader = open_dataset(ultrasound(tmp_path), exclude=name if alone else [name])
    dataset = prepare(reader, Preparation(size=(8, 8)), Cache(tmp_path / "cache"))
    assert set(dataset.patients) == {f"benign_{number}" for number in (1, 2, 3, 5)}


def test_images_are_left_out_by_a_pattern(tmp_path: Path) -> None:
    for name in ("normal (1)", "normal (2)", "b"):
        picture(tmp_path / "images" / f"{name}.png", grey((8, 8)))
        picture(tmp_path / "labels" / f"{name}.png", labels((8, 8), 3))
    assert [one.id for one in Folders(tmp_path, exclude="normal*").sources()] == ["b"]
    with pytest.raises(SegprefError, match=r"no image with the id 'odd\*' to leave out"):
        Folders(tmp_path, exclude=["normal*", "odd*"])


def test_nothing_of_an_image_that_is_left_out_is_looked_at(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png", grey((8, 8)))
        picture(tmp_path / "labels" / f"{name}.png", labels((8, 8), 3))
    (tmp_path / "labels" / "a.png").write_bytes(b"damaged")
    with pytest.raises(SegprefError, match=r"a\.png is cut off"):
        Folders(tmp_path)
    reader = Folders(tmp_path, exclude=["a"])
    assert [source.id for source in reader.sources()] == ["b"]
    picture(tmp_path / "s" / "images" / "a.png", grey((8, 8)))
    picture(tmp_path / "s" / "images" / "b.png", grey((8, 8)))
    for name, structure in (("a", "heart"), ("b", "heart"), ("b", "lung")):
        picture(tmp_path / "s" / "masks" / structure / f"{name}.png", labels((8, 8), 2))
    with pytest.raises(SegprefError, match="lacks the mask of lung"):
        Folders(tmp_path / "s")
    assert len(Folders(tmp_path / "s", exclude=["a"]).sources()) == 1
