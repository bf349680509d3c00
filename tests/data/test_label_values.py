"""Values of labels on disk: kept in what is written, accepted in what is read, else refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from written import description, grey, nifti, picture

from segpref.data import (
    Cache,
    Decathlon,
    Folders,
    MaskFolder,
    Preparation,
    Source,
    check_foreground,
    label_space_of,
    prepare,
    read_image,
    read_labels,
    read_volume,
)
from segpref.inference import write_mask
from segpref.policies import ModelCard, NetworkSpec, current
from segpref.types import IGNORE, Case, LabelSpace, SegprefError

GAPS = LabelSpace("multi-class", ("background", "a", "b"), on_disk=(0, 2, 4))
SHAPE = (4, 5, 6)


def folders(root: Path, values: tuple[int, ...], **options: object) -> Folders:
    for number in range(2):
        label = np.resize(np.array(values, np.uint8), (6, 8))
        picture(root / "images" / f"{number}.png", grey((6, 8), number))
        picture(root / "labels" / f"{number}.png", label)
    return Folders(root, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [(0, 2, 4), (0, 255), (0, 1), (0, 1, 2), (0, 7)])
def test_masks_that_are_written_hold_the_values_of_the_labels_and_are_read_again(
    tmp_path: Path, values: tuple[int, ...]
) -> None:
    reader = folders(tmp_path / "data", values)
    assert reader.label_space.disk_values == values
    source = reader.sources()[0]
    case = reader.read(source)
    assert case.label is not None
    assert np.unique(case.label).tolist() == list(range(len(values)))
    written = tmp_path / "masks" / "0.png"
    write_mask(written, case.label, reader.label_space, case)
    truth = np.asarray(Image.open(source.labels[0]))
    np.testing.assert_array_equal(np.asarray(Image.open(written)), truth)
    preparation, cache = Preparation(), Cache(tmp_path / "cache")
    dataset = prepare(reader, preparation, cache)
    masks = MaskFolder(written.parent, [reader], reader.label_space, preparation, cache)
    masks.prepare(dataset)
    np.testing.assert_array_equal(masks[dataset[0]], dataset[0].label)


def test_a_structure_that_is_white_in_its_masks_is_so_in_those_that_are_written(
    tmp_path: Path,
) -> None:
    white = folders(tmp_path / "a", (0, 255), names=("background", "disc"))
    assert white.label_space.disk_values == (0, 255)
    dark = folders(tmp_path / "b", (0, 1), names=("background", "disc"))
    assert dark.label_space.disk_values == (0, 1)


def test_decathlon_values_with_gaps_come_back(tmp_path: Path) -> None:
    label = np.resize(np.array([0, 2, 400], np.int16), SHAPE)
    nifti(tmp_path / "imagesTr" / "a.nii.gz", grey(SHAPE))
    nifti(tmp_path / "labelsTr" / "a.nii.gz", label)
    description(
        tmp_path, modality={"0": "MRI"}, labels={"0": "background", "2": "a", "400": "b"},
        training=[{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}],
    )  # fmt: skip
    reader = Decathlon(tmp_path)
    source = reader.sources()[0]
    case = reader.read(source)
    assert case.label is not None
    write_mask(tmp_path / "m.nii.gz", case.label, reader.label_space, source.images[0])
    np.testing.assert_array_equal(nib.load(tmp_path / "m.nii.gz").dataobj, label)


@pytest.mark.parametrize("white", [1, 255])
def test_masks_of_two_classes_may_be_black_and_white_or_jpeg(tmp_path: Path, white: int) -> None:
    reader = folders(tmp_path / "data", (0, 255))
    preparation, cache = Preparation(), Cache(tmp_path / "cache")
    dataset = prepare(reader, preparation, cache)
    truth = dataset[0].label
    assert truth is not None
    for name in ("0.png", "0.jpg") if white == 255 else ("0.png",):
        place = tmp_path / name
        pixels = truth[0] * np.uint8(white)
        place.mkdir()
        Image.fromarray(pixels).save(place / name, **({"quality": 100} if name[-1] == "g" else {}))
        masks = MaskFolder(place, [reader], reader.label_space, preparation, cache)
        masks.prepare(dataset)
        np.testing.assert_array_equal(masks[dataset[0]], truth)


def test_ignore_of_minus_one_is_that_value_alone(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.resize(np.array([0, 1, -1], np.int16), SHAPE))
    image = read_volume(path)
    label = read_labels(path, image, path, {0: 0, 1: 1, -1: IGNORE}, ("background", "a"))
    assert np.unique(label).tolist() == [0, 1, IGNORE]
    for stray in (2, 7, 255, -2, 300):
        nifti(path, np.resize(np.array([0, 1, -1, stray], np.int16), SHAPE))
        with pytest.raises(SegprefError, match=rf"a\.nii holds the label value {stray},"):
            read_labels(path, image, path, {0: 0, 1: 1, -1: IGNORE}, ("background", "a"))


def test_a_value_that_is_a_class_can_not_be_ignored(tmp_path: Path) -> None:
    reader = folders(tmp_path, (0, 1, 2), names=("background", "a", "b"), ignore=1)
    with pytest.raises(SegprefError, match="ignore is 1, the value of a"):
        reader.read(reader.sources()[0])


def test_values_on_disk_are_no_difference_of_meaning() -> None:
    plain = LabelSpace("multi-class", GAPS.names)
    assert plain == GAPS
    assert plain.disk_values == (0, 1, 2)
    for wrong in ((0, 2), (0, 2, 2), (0, -1, 2), (0, 1, 70_000)):
        with pytest.raises(SegprefError, match="values on disk"):
            LabelSpace("multi-class", GAPS.names, on_disk=wrong)
    mask = np.array([[0, 1, 2, IGNORE]], np.uint8)
    assert GAPS.to_disk(mask).tolist() == [[0, 2, 4, IGNORE]]
    white = LabelSpace("multi-class", ("background", "a"), on_disk=(0, 255))
    with pytest.raises(SegprefError, match="a is 255 on disk"):
        white.to_disk(np.array([0, 1, IGNORE], np.uint8))


def test_the_card_keeps_values_and_geometry_and_older_ones_have_none() -> None:
    ranges = ((1.0, 1.5), (1.0, 1.5), (8.0, 10.0))
    card = ModelCard(
        NetworkSpec("monai.networks.nets.UNet"), GAPS, Preparation(),
        orientation="LPS", spacing_range_mm=ranges,
    )  # fmt: skip
    back = ModelCard.from_json(card.to_json())
    assert back.label_space.on_disk == (0, 2, 4)
    assert (back.orientation, back.spacing_range_mm) == ("LPS", ranges)
    old = json.loads(card.to_json()) | {"format": 2}
    for key in ("orientation", "spacing_range_mm"):
        del old[key]
    del old["label_space"]["on_disk"]
    assert current(old, "a file")["label_space"]["on_disk"] == []
    before = ModelCard.from_json(json.dumps(old))
    assert before.label_space.on_disk == ()
    assert (before.orientation, before.spacing_range_mm) == (None, None)


@pytest.mark.parametrize("value", [1e300, 3.5e38, -1e39])
def test_what_overflows_in_single_precision_is_refused(tmp_path: Path, value: float) -> None:
    array = np.zeros(SHAPE)
    array[0, 0, 0] = value
    path = nifti(tmp_path / "a.nii", array)
    source = Source(id="a", patient="a", images=(path,))
    with pytest.raises(SegprefError, match=r"a\.nii holds values up to .*too large"):
        read_image(source, ("image",))


def test_what_is_told_apart_in_double_precision_alone_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", 1e9 + np.arange(120.0).reshape(SHAPE) / 120)
    with pytest.raises(SegprefError, match=r"a\.nii holds values .*all one in single precision"):
        read_image(Source(id="a", patient="a", images=(path,)), ("image",))


def test_what_overflows_when_it_is_scaled_is_refused_with_its_file(tmp_path: Path) -> None:
    array = np.zeros((6, 8), np.float32)
    array[0, :2] = 3e38, -3e38
    (tmp_path / "images").mkdir()
    Image.fromarray(array).save(tmp_path / "images" / "0.tif")
    picture(tmp_path / "labels" / "0.png", grey((6, 8)) % 2)
    with pytest.raises(SegprefError, match=r"0\.tif holds values that are too large to be scaled"):
        prepare(Folders(tmp_path), Preparation(), Cache(tmp_path / "cache"))


def labelled(*values: int) -> Case:
    image = np.zeros((1, 1, len(values)), np.float32)
    label = np.array([[values]], np.uint8)
    return Case(id="a", patient="a", volume="a", image=image, label=label)


def test_labels_without_any_foreground_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SegprefError, match="none of the 2 validation labels shows a or b"):
        check_foreground([labelled(0, 0), labelled(0, IGNORE)], GAPS, "validation")
    check_foreground([labelled(0, 1)], GAPS, "training")
    assert "b: it will not be learned" in " ".join(capsys.readouterr().err.split())
    check_foreground([labelled(0, 1), labelled(2)], GAPS, "training")
    assert not capsys.readouterr().err


def test_a_class_that_is_ignored_too_is_refused(tmp_path: Path) -> None:
    labels = {"background": 0, "a": 1, "b": 2, "ignore": 1}
    with pytest.raises(SegprefError, match=r"dataset\.json .* 1 is a class and \"ignore\""):
        label_space_of(tmp_path / "dataset.json", labels)
    values, _ = label_space_of(tmp_path / "dataset.json", labels | {"ignore": 3})
    assert values == {0: 0, 1: 1, 2: 2, 3: IGNORE}
