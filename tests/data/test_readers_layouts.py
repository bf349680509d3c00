"""Every layout on disk gives the same kind of case."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from jsonargparse import ArgumentParser
from written import MM, description, dicom, grey, labels, nifti, picture, series

from segpref.data import ACDC, JSRT, Decathlon, Folders, Images, NnUNetRaw, Reader, open_dataset
from segpref.types import IGNORE, LabelSpace, Region, SegprefError

STRUCTURES = ("left clavicle", "right clavicle", "left lung", "right lung", "heart")


def acdc(root: Path, patients: tuple[int, ...] = (1, 21), below: str = "") -> Path:
    for number in patients:
        name = f"patient{number:03d}"
        for frame in ("01", "12"):
            stem = root / below / name / f"{name}_frame{frame}"
            nifti(Path(f"{stem}.nii.gz"), grey((6, 7, 3), seed=number))
            nifti(Path(f"{stem}_gt.nii.gz"), labels((6, 7, 3), 4, seed=number))
        nifti(root / below / name / f"{name}_4d.nii.gz", grey((6, 7, 3, 2)))
    return root


@pytest.mark.parametrize("below", ["", "training", "database/testing"])
def test_acdc(tmp_path: Path, below: str) -> None:
    reader = ACDC(acdc(tmp_path, below=below))
    assert isinstance(reader, Reader)
    assert [source.id for source in reader.sources()] == [
        "patient001_frame01",
        "patient001_frame12",
        "patient021_frame01",
        "patient021_frame12",
    ]
    assert [source.patient for source in reader.sources()][1:3] == ["patient001", "patient021"]
    assert [source.stratum for source in reader.sources()][1:3] == ["DCM", "HCM"]
    assert reader.patients_known
    case = reader.read(reader.sources()[2])
    assert case.id == case.volume == "patient021_frame01"
    assert case.image.dtype == np.float32
    assert np.array_equal(case.image[0], grey((6, 7, 3), seed=21))
    assert case.label is not None
    assert case.label.dtype == np.uint8
    assert np.array_equal(case.label[0], labels((6, 7, 3), 4, seed=21))
    assert np.array_equal(case.affine, MM)


def test_acdc_info_cfg_wins_and_patients_beyond_the_training_set_have_no_group(
    tmp_path: Path,
) -> None:
    acdc(tmp_path, patients=(1, 120))
    (tmp_path / "patient001" / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: NOR\nNbFrame: 30\n")
    strata = {source.patient: source.stratum for source in ACDC(tmp_path).sources()}
    assert strata == {"patient001": "NOR", "patient120": None}


def test_acdc_frame_without_labels_is_unlabelled(tmp_path: Path) -> None:
    (acdc(tmp_path) / "patient001" / "patient001_frame12_gt.nii.gz").unlink()
    reader = ACDC(tmp_path)
    assert reader.sources()[1].labels == ()
    assert reader.read(reader.sources()[1]).label is None


def test_acdc_as_independent_structures(tmp_path: Path) -> None:
    reader = ACDC(acdc(tmp_path), as_multilabel=True)
    assert reader.label_space == LabelSpace("multi-label", ("RV", "MYO", "LV"))
    label = reader.read(reader.sources()[0]).label
    wanted = labels((6, 7, 3), 4, seed=1)
    assert label is not None
    assert np.array_equal(label, np.stack([wanted == 1, wanted == 2, wanted == 3]))


def jsrt_masks(side: int) -> dict[str, np.ndarray]:
    return {name: (labels((side, side), 2, seed) * 255) for seed, name in enumerate(STRUCTURES)}


def test_jsrt_as_distributed(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 4096, size=(2048, 2048)).astype(">u2")
    (tmp_path / "All247images").mkdir()
    for name in ("JPCLN001", "JPCNN002"):
        raw.tofile(tmp_path / "All247images" / f"{name}.IMG")
    masks = jsrt_masks(1024)
    for fold, name in (("fold1", "JPCLN001"), ("fold2", "JPCNN002")):
        for structure, mask in masks.items():
            picture(tmp_path / "scratch" / fold / "masks" / structure / f"{name}.gif", mask)
    reader = open_dataset(tmp_path)
    assert isinstance(reader, JSRT)
    assert reader.label_space.names == STRUCTURES
    assert [source.stratum for source in reader.sources()] == ["nodule", "no nodule"]
    case = reader.read(reader.sources()[0])
    assert case.image.shape == (1, 2048, 2048)
    assert np.array_equal(case.image[0], 4095 - raw.astype(np.float32))
    assert case.spacing_mm == (0.175, 0.175)
    assert case.label is not None
    assert case.label.shape == (5, 2048, 2048)
    for field, mask in zip(case.label, masks.values(), strict=True):
        assert np.array_equal(field, np.kron(mask > 0, np.ones((2, 2), bool)))


def test_jsrt_as_exports(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "JPCLN001.png", grey((256, 256)))
    for structure, mask in jsrt_masks(256).items():
        picture(tmp_path / "masks" / structure.replace(" ", "_") / "JPCLN001.png", mask)
    picture(tmp_path / "images" / "JPCNN002.png", grey((40, 30)))
    reader = open_dataset(tmp_path)
    assert isinstance(reader, JSRT)
    case = reader.read(reader.sources()[0])
    assert np.array_equal(case.image[0], grey((256, 256)))
    assert case.spacing_mm == (1.4, 1.4)
    assert case.label is not None
    assert np.array_equal(case.label, np.stack(list(jsrt_masks(256).values())) > 0)
    unlabelled = reader.read(reader.sources()[1])
    assert unlabelled.label is None
    assert unlabelled.spacing_mm is None


def decathlon(root: Path, shape: tuple[int, ...] = (4, 5, 6), values: Any = (0, 1, 2)) -> Path:
    modality = {"0": "T2", "1": "ADC"} if len(shape) == 4 else {"0": "MRI"}
    description(
        root,
        modality=modality,
        labels={str(value): f"name {value}" for value in values},
        training=[{"image": "./imagesTr/a_1.nii.gz", "label": "./labelsTr/a_1.nii.gz"}],
        test=["./imagesTs/a_2.nii.gz"],
    )
    nifti(root / "imagesTr" / "a_1.nii.gz", grey(shape))
    nifti(root / "imagesTs" / "a_2.nii.gz", grey(shape, 2))
    found = np.array(values, dtype=np.uint8)[labels(shape[:3], len(values))]
    nifti(root / "labelsTr" / "a_1.nii.gz", found.astype(np.float32))
    return root


def test_decathlon(tmp_path: Path) -> None:
    reader = open_dataset(decathlon(tmp_path))
    assert isinstance(reader, Decathlon)
    assert [source.id for source in reader.sources()] == ["a_1", "a_2"]
    assert not reader.patients_known
    case, bare = (reader.read(source) for source in reader.sources())
    assert case.label is not None
    assert np.array_equal(case.label[0], labels((4, 5, 6), 3))
    assert bare.label is None


def test_decathlon_with_two_modalities_and_gaps_in_the_values(tmp_path: Path) -> None:
    reader = Decathlon(decathlon(tmp_path, (4, 5, 6, 2), (0, 2, 5)), patient_pattern=r"^(a)_")
    assert reader.channels == ("T2", "ADC")
    assert reader.label_space.names == ("name 0", "name 2", "name 5")
    assert reader.patients_known
    assert {source.patient for source in reader.sources()} == {"a"}
    case = reader.read(reader.sources()[0])
    assert np.array_equal(case.image[1], grey((4, 5, 6, 2))[..., 1])
    assert case.label is not None
    assert np.array_equal(case.label[0], labels((4, 5, 6), 3))


REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}


def nnunet(root: Path, wanted: Any = None, channels: int = 2, ending: str = ".nii.gz") -> Path:
    wanted = wanted or REGIONS
    description(
        root,
        channel_names={str(number): f"c{number}" for number in range(channels)},
        labels=wanted,
        file_ending=ending,
        numTraining=1,
    )
    for name, place in (("case1", "imagesTr"), ("case2", "imagesTs")):
        for channel in range(channels):
            nifti(root / place / f"{name}_{channel:04d}{ending}", grey((4, 5, 6), channel))
    nifti(root / "labelsTr" / f"case1{ending}", labels((4, 5, 6), 5))
    return root


def test_nnunet_with_regions_and_ignored_pixels(tmp_path: Path) -> None:
    reader = open_dataset(nnunet(tmp_path))
    assert isinstance(reader, NnUNetRaw)
    assert reader.channels == ("c0", "c1")
    assert reader.label_space.names == ("background", "class 1", "class 2", "enhancing")
    assert reader.label_space.regions == (
        Region("whole", (1, 2, 3)),
        Region("core", (2, 3)),
        Region("enhancing", (3,)),
    )
    assert [source.id for source in reader.sources()] == ["case1", "case2"]
    case = reader.read(reader.sources()[0])
    assert np.array_equal(case.image, np.stack([grey((4, 5, 6), 0), grey((4, 5, 6), 1)]))
    raw = labels((4, 5, 6), 5)
    assert case.label is not None
    assert np.array_equal(case.label[0], np.where(raw == 4, IGNORE, raw))
    assert reader.read(reader.sources()[1]).label is None


def test_nnunet_regions_as_independent_structures(tmp_path: Path) -> None:
    reader = NnUNetRaw(nnunet(tmp_path), as_multilabel=True)
    assert reader.label_space == LabelSpace("multi-label", ("whole", "core", "enhancing"))
    label = reader.read(reader.sources()[0]).label
    raw = labels((4, 5, 6), 5)
    wanted = np.stack([(raw > 0), (raw > 1), (raw > 2)]).astype(np.uint8)
    wanted[:, raw == 4] = IGNORE
    assert label is not None
    assert np.array_equal(label, wanted)


def test_nnunet_colour_pictures_hold_all_channels_in_one_file(tmp_path: Path) -> None:
    description(
        tmp_path,
        channel_names={"0": "R", "1": "G", "2": "B"},
        labels={"background": 0, "road": 1},
        file_ending=".png",
    )
    picture(tmp_path / "imagesTr" / "x_0000.png", grey((4, 6, 3)))
    picture(tmp_path / "labelsTr" / "x.png", labels((4, 6), 2))
    reader = NnUNetRaw(tmp_path)
    case = reader.read(reader.sources()[0])
    assert case.image.shape == (3, 4, 6)
    assert case.label is not None
    assert np.array_equal(case.label[0], labels((4, 6), 2))


def save(path: Path, array: np.ndarray) -> Path:
    return nifti(path, array) if path.name.endswith((".nii", ".nii.gz")) else picture(path, array)


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp", ".nii.gz"])
def test_folders_with_label_maps(tmp_path: Path, ending: str) -> None:
    for seed, name in enumerate(("p1_a", "p1_b")):
        save(tmp_path / "images" / f"{name}{ending}", grey((6, 8), seed))
        save(tmp_path / "labels" / f"{name}{ending}", labels((6, 8), 3, seed))
    reader = open_dataset(tmp_path, patient_pattern="^(p[0-9])_")
    assert isinstance(reader, Folders)
    assert reader.label_space == LabelSpace("multi-class", ("background", "class 1", "class 2"))
    assert {source.patient for source in reader.sources()} == {"p1"}
    case = reader.read(reader.sources()[1])
    assert np.array_equal(case.image[0], grey((6, 8), 1))
    assert case.label is not None
    assert np.array_equal(case.label[0], labels((6, 8), 3, 1))


@pytest.mark.parametrize("ending", [".png", ".jpg", ".nii"])
def test_two_class_label_maps_may_hold_0_and_255(tmp_path: Path, ending: str) -> None:
    blocks = np.kron(labels((3, 4), 2), np.ones((8, 8), np.uint8))
    save(
        tmp_path / "images" / "a.png" if ending != ".nii" else tmp_path / "images" / "a.nii", blocks
    )
    save(tmp_path / "masks" / f"a{ending}", blocks * np.uint8(255))
    reader = Folders(tmp_path)
    assert reader.label_space == LabelSpace("multi-class", ("background", "foreground"))
    assert not reader.patients_known
    label = reader.read(reader.sources()[0]).label
    assert label is not None
    assert np.array_equal(label[0], blocks)


def test_folders_ignore_value(tmp_path: Path) -> None:
    truth = labels((5, 6), 3)
    truth[0, 0] = 255
    picture(tmp_path / "images" / "a.png", grey((5, 6)))
    picture(tmp_path / "labels" / "a.png", truth)
    reader = Folders(tmp_path, ignore=255, names=("background", "one", "two"))
    label = reader.read(reader.sources()[0]).label
    assert label is not None
    assert np.array_equal(label[0], truth)
    assert label[0, 0, 0] == IGNORE


def test_folders_with_structures(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg", grey((16, 24)))
    picture(tmp_path / "images" / "b.jpg", grey((16, 24)))
    shapes = {name: labels((16, 24), 2, seed) for seed, name in enumerate(("lung", "heart"))}
    for name, mask in shapes.items():
        picture(tmp_path / "masks" / name / "a.png", mask * np.uint8(255))
    reader = Folders(tmp_path)
    assert reader.label_space == LabelSpace("multi-label", ("heart", "lung"))
    assert len(reader.sources()) == 2
    label = reader.read(reader.sources()[0]).label
    assert label is not None
    assert np.array_equal(label, np.stack([shapes["heart"], shapes["lung"]]))
    assert reader.read(reader.sources()[1]).label is None
    turned = Folders(tmp_path, names=("lung", "heart"))
    label = turned.read(turned.sources()[0]).label
    assert label is not None
    assert np.array_equal(label, np.stack([shapes["lung"], shapes["heart"]]))


def test_threshold_cuts_grey_masks(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", grey((5, 6)))
    mask = grey((5, 6), 3)
    picture(tmp_path / "masks" / "lesion" / "a.png", mask)
    for threshold in (10, 50.5):
        reader = Folders(tmp_path, threshold=threshold)
        label = reader.read(reader.sources()[0]).label
        assert label is not None
        assert np.array_equal(label[0], mask > threshold)


def test_masks_beside_their_images_are_united(tmp_path: Path) -> None:
    first, second = labels((6, 7), 2, 0), labels((6, 7), 2, 1)
    picture(tmp_path / "benign" / "benign (4).png", grey((6, 7, 1)).repeat(3, axis=2))
    picture(tmp_path / "benign" / "benign (4)_mask.png", first * np.uint8(255), mode="1")
    picture(tmp_path / "benign" / "benign (4)_mask_1.png", second * np.uint8(255), mode="RGB")
    picture(tmp_path / "normal" / "normal (1).png", grey((6, 7)))
    picture(tmp_path / "normal" / "normal (1)_mask.png", first * np.uint8(0))
    reader = open_dataset(tmp_path, names=("lesion",))
    assert reader.label_space == LabelSpace("multi-label", ("lesion",))
    assert reader.channels == ("image",)
    assert [(source.id, source.stratum) for source in reader.sources()] == [
        ("benign_4", "benign"),
        ("normal_1", "normal"),
    ]
    united, empty = (reader.read(source).label for source in reader.sources())
    assert united is not None
    assert empty is not None
    assert np.array_equal(united[0], first | second)
    assert not empty.any()


@pytest.mark.parametrize(("colour", "channels"), [(None, 3), (True, 3), (False, 1)])
def test_colour_is_kept_where_it_carries_something(
    tmp_path: Path, colour: bool | None, channels: int
) -> None:
    picture(tmp_path / "a.png", grey((4, 5, 3)))
    picture(tmp_path / "b.png", grey((4, 5, 3))[..., :1].repeat(3, axis=2))
    reader = Images(tmp_path, colour=colour)
    assert len(reader.channels) == channels
    assert [reader.read(source).image.shape[0] for source in reader.sources()] == [channels] * 2


def test_images_of_every_format(tmp_path: Path) -> None:
    stack = grey((3, 4, 5), dtype=np.uint16)
    nifti(tmp_path / "a.nii.gz", grey((4, 5, 6)))
    series(tmp_path / "study" / "t1", stack)
    series(tmp_path / "study" / "t2", stack, uid="1.2.4")
    reader = Images(tmp_path)
    assert reader.label_space is None
    assert [source.id for source in reader.sources()] == ["a", "study_t1", "study_t2"]
    assert np.array_equal(reader.read(reader.sources()[1]).image[0], stack.transpose(2, 1, 0))
    alone = Images(tmp_path / "study" / "t1")
    assert [source.id for source in alone.sources()] == ["t1"]
    assert alone.read(alone.sources()[0]).label is None
    file = Images(tmp_path / "a.nii.gz")
    assert [source.id for source in file.sources()] == ["a"]


def test_radiographs_in_one_folder_are_images_of_their_own(tmp_path: Path) -> None:
    for number in range(2):
        dicom(tmp_path / f"{number}.dcm", grey((4, 6), dtype=np.uint16), f"1.{number}", None)
    reader = Images(tmp_path)
    assert [source.id for source in reader.sources()] == ["0", "1"]
    assert reader.read(reader.sources()[1]).image.shape == (1, 4, 6)


def test_channel_files_of_unlabelled_images(tmp_path: Path) -> None:
    for channel in range(2):
        nifti(tmp_path / f"x_000{channel}.nii.gz", grey((4, 5, 6), channel))
    reader = Images(tmp_path, channel_files=2)
    assert [source.id for source in reader.sources()] == ["x"]
    assert np.array_equal(reader.read(reader.sources()[0]).image[1], grey((4, 5, 6), 1))


def test_tiff_stacks_with_stacked_masks(tmp_path: Path) -> None:
    for place, array in (("images", grey((3, 5, 7))), ("labels", labels((3, 5, 7), 3))):
        (tmp_path / place).mkdir()
        tifffile.imwrite(tmp_path / place / "a.tif", array, photometric="minisblack")
    reader = Folders(tmp_path)
    case = reader.read(reader.sources()[0])
    assert case.image.shape == (1, 3, 5, 7)
    assert case.label is not None
    assert np.array_equal(case.label[0], labels((3, 5, 7), 3))


@pytest.mark.parametrize(
    ("build", "layout"),
    [(acdc, ACDC), (decathlon, Decathlon), (nnunet, NnUNetRaw)],
    ids=["acdc", "decathlon", "nnunet"],
)
def test_open_dataset_passes_options_on(
    tmp_path: Path, build: Callable[[Path], Path], layout: type
) -> None:
    reader = open_dataset(build(tmp_path), as_multilabel=True)
    assert isinstance(reader, layout)
    assert reader.label_space.kind == "multi-label"
    with pytest.raises(SegprefError, match="no option 'colour'"):
        open_dataset(tmp_path, colour=True)


@pytest.mark.parametrize("layout", [ACDC, JSRT, Decathlon, NnUNetRaw, Folders, Images])
def test_constructors_are_command_lines(layout: type, tmp_path: Path) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(layout, "data")
    given = {"ACDC": "--data.as_multilabel=true", "Folders": "--data.names=[a,b]"}
    options = [given[layout.__name__]] if layout.__name__ in given else []
    parsed = parser.parse_args([f"--data.root={tmp_path}", *options]).data
    assert str(parsed.root) == str(tmp_path)
    assert vars(parsed).get("as_multilabel") in (None, False, layout is ACDC)
    assert list(vars(parsed).get("names", ())) == (["a", "b"] if layout is Folders else [])
    for name, parameter in inspect.signature(layout).parameters.items():
        assert f"data.{name}" in parser.format_help()
        assert parameter.annotation is not inspect.Parameter.empty


def real(name: str) -> Path:
    root = os.environ.get("SEGPREF_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"SEGPREF_DATA does not point to a folder that holds {name}")
    return Path(root) / name


@pytest.mark.data
def test_real_acdc() -> None:
    reader = open_dataset(real("acdc"))
    assert isinstance(reader, ACDC)
    sources = reader.sources()
    groups = {source.patient: source.stratum for source in sources}
    assert len(sources) == 160
    assert sorted(groups.values()) == sorted(["DCM", "HCM", "MINF", "NOR", "RV"] * 16)
    for source in sources[::40]:
        case = reader.read(source)
        assert case.spacing_mm is None
        assert case.label is not None
        assert case.image.ndim == 4
        assert set(np.unique(case.label)) == {0, 1, 2, 3}
        assert case.image.max() == 255


@pytest.mark.data
def test_real_hippocampus() -> None:
    reader = open_dataset(real("Task04_Hippocampus"), as_multilabel=True)
    assert reader.label_space == LabelSpace("multi-label", ("Anterior", "Posterior"))
    assert len(reader.sources()) == 201
    for source in reader.sources()[::40]:
        case = reader.read(source)
        assert case.spacing_mm == (1.0, 1.0, 1.0)
        assert case.label is not None
        assert case.label.any(axis=(1, 2, 3)).all()
        assert not (case.label[0] & case.label[1]).any()


@pytest.mark.slow
@pytest.mark.data
def test_real_busi() -> None:
    # The second mask of benign (4) was drawn on another grid than its image.
    whole = open_dataset(real("busi"), names=("lesion",))
    broken = next(source for source in whole.sources() if source.id == "benign_4")
    with pytest.raises(SegprefError, match="465 x 555 pixels but its image"):
        whole.read(broken)
    reader = open_dataset(real("busi"), names=("lesion",), exclude=("benign_4",))
    strata = [source.stratum for source in reader.sources()]
    assert {name: strata.count(name) for name in strata} == {
        "benign": 32,
        "malignant": 34,
        "normal": 34,
    }
    assert sum(len(source.labels) == 2 for source in whole.sources()) == 2
    for source in reader.sources():
        case = reader.read(source)
        assert case.image.shape[0] == 1
        assert case.label is not None
        assert case.label.any() == (source.stratum != "normal")
