"""DICOM-SEG as labels: what was written comes back, by position, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import AXIAL, CORONAL, SAGITTAL, enhanced, image, save, stack, values
from pydicom.dataset import Dataset
from seg_files import OBLIQUE
from written import nifti

from segpref.data import Exports, Images, open_dataset
from segpref.inference import mask_format
from segpref.types import LabelSpace, SegprefError

HEART = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
CHEST = LabelSpace("multi-label", ("left lung", "right lung", "heart"))


def mask_of(space: LabelSpace, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).integers(0, space.values, (space.fields, *shape))
    made[..., 1] = 0
    return made.astype(np.uint8)


def write(folder: Path, space: LabelSpace, masks: Sequence[np.ndarray], out: Path) -> list[Path]:
    """The DICOM-SEG of the series of a folder, in the order of their names."""
    reader = Images(folder, channels=("image",))
    made = mask_format("dicom-seg", space, out)
    files: list[Path] = []
    for source, mask in zip(reader.sources(), masks, strict=True):
        path = out / made.name(source)
        files += made.write(path, mask, space, source, reader.read(source))
    return files


def one(folder: Path, space: LabelSpace = HEART, seed: int = 0) -> tuple[Path, np.ndarray]:
    """A series of its own study with its DICOM-SEG beside it, and the mask."""
    mask = mask_of(space, (9, 6, 4), seed)
    stack(folder / "s", values((4, 6, 9)))
    (path,) = write(folder / "s", space, [mask], folder / "seg")
    return path, mask


def changed(path: Path, change: Callable[[Dataset], object]) -> Path:
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(path)
    return path


def label_of(folder: Path, **options: object) -> np.ndarray:
    reader = Exports(folder, **options)
    (source,) = reader.sources()
    label = reader.read(source).label
    assert label is not None
    return label


@pytest.mark.parametrize("space", [HEART, CHEST], ids=["exclusive", "overlapping"])
@pytest.mark.parametrize("turn", [AXIAL, CORONAL, SAGITTAL, OBLIQUE, tuple(-x for x in OBLIQUE)])
def test_what_was_written_comes_back(tmp_path: Path, space: LabelSpace, turn) -> None:
    masks = []
    for number in (1, 2):
        uids = {"StudyInstanceUID": f"1.9.{number}", "SeriesInstanceUID": f"1.9.{number}.1"}
        stack(
            tmp_path / "images" / str(number), values((5, 6, 9), number), orientation=turn,
            gap_mm=3.25, PatientID=f"p{number}", **uids,
        )  # fmt: skip
        masks.append(mask_of(space, (9, 6, 5), number))
    write(tmp_path / "images", space, masks, tmp_path / "labels")
    reader = open_dataset(tmp_path)
    assert isinstance(reader, Exports)
    assert reader.label_space == space
    assert reader.patients_known
    assert [source.patient for source in reader.sources()] == ["p1", "p2"]
    for source, mask in zip(reader.sources(), masks, strict=True):
        case = reader.read(source)
        assert np.array_equal(case.label, mask)
        number = int(source.patient[1:])
        assert np.array_equal(case.image[0], values((5, 6, 9), number).transpose(2, 1, 0))


def test_the_order_of_frames_does_not_matter(tmp_path: Path) -> None:
    path, mask = one(tmp_path)

    def turn_round(data: Dataset) -> None:
        pixels = data.pixel_array[::-1].astype(np.uint8)
        frames = list(data.PerFrameFunctionalGroupsSequence)[::-1]
        data.PerFrameFunctionalGroupsSequence = frames
        data.PixelData = np.packbits(pixels.reshape(-1), bitorder="little").tobytes()

    before = pydicom.dcmread(path).PixelData
    assert pydicom.dcmread(changed(path, turn_round)).PixelData != before
    assert np.array_equal(label_of(tmp_path), mask)


def test_other_series_are_left_alone_and_names_may_be_given(tmp_path: Path) -> None:
    _, mask = one(tmp_path)
    stack(tmp_path / "other", values((3, 6, 9)), SeriesInstanceUID="1.9.1.2")
    assert [source.id for source in Exports(tmp_path).sources()] == ["s"]
    names = ("background", "LV", "RV", "MYO")
    other = np.array([0, 2, 3, 1], np.uint8)[mask]
    assert np.array_equal(label_of(tmp_path, names=names), other)
    fields = np.stack([mask[0] == value for value in (1, 2, 3)])
    assert np.array_equal(label_of(tmp_path, as_multilabel=True), fields)


def test_segmentations_elsewhere_and_copies(tmp_path: Path) -> None:
    path, mask = one(tmp_path / "a")
    (tmp_path / "b").mkdir()
    moved = path.rename(tmp_path / "b" / path.name)
    moved.with_name("copy.dcm").write_bytes(moved.read_bytes())
    assert np.array_equal(label_of(tmp_path / "a", labels="../b"), mask)
    reader = open_dataset(tmp_path / "a", labels=str(tmp_path / "b"))
    assert isinstance(reader, Exports)
    with pytest.raises(SegprefError, match="holds no DICOM-SEG"):
        Exports(tmp_path / "a")


def test_a_file_for_each_structure(tmp_path: Path) -> None:
    mask = mask_of(CHEST, (9, 6, 4))
    stack(tmp_path / "s", values((4, 6, 9)))
    for number, name in enumerate(CHEST.names):
        alone = LabelSpace("multi-label", (name,))
        write(tmp_path / "s", alone, [mask[number : number + 1]], tmp_path / f"seg{number}")
    assert np.array_equal(label_of(tmp_path, as_multilabel=True), mask)
    with pytest.raises(SegprefError, match=r"segments that overlap .*set as_multilabel"):
        label_of(tmp_path, names=("background", *CHEST.names), as_multilabel=False)


@pytest.mark.parametrize("space", [HEART, CHEST], ids=["exclusive", "overlapping"])
def test_empty_masks_enhanced_files_and_radiographs(tmp_path: Path, space: LabelSpace) -> None:
    stack(tmp_path / "a" / "s", values((4, 6, 9)))
    empty = np.zeros((space.fields, 9, 6, 4), np.uint8)
    write(tmp_path / "a" / "s", space, [empty], tmp_path / "a")
    given = {"names": space.names, "as_multilabel": space is CHEST}
    assert np.array_equal(label_of(tmp_path / "a", **given), empty)

    file = enhanced(tmp_path / "b" / "e.dcm", values((3, 6, 9)), [4.0, 0.0, 2.0])
    changed(file, lambda data: setattr(data, "FrameOfReferenceUID", "1.9.9"))
    mask = mask_of(space, (9, 6, 3))
    write(tmp_path / "b", space, [mask], tmp_path / "b" / "seg")
    assert np.array_equal(label_of(tmp_path / "b", **given), mask)

    kind = pydicom.uid.ComputedRadiographyImageStorage
    for name in "xy":
        data = image(values((6, 9)), SOPClassUID=kind, Modality="CR")
        save(tmp_path / "c" / f"{name}.dcm", data)
    masks = [mask_of(space, (6, 9), seed) for seed in (0, 1)]
    write(tmp_path / "c", space, masks, tmp_path / "c" / "seg")
    reader = Exports(tmp_path / "c", **given)
    for source, mask in zip(reader.sources(), masks, strict=True):
        assert np.array_equal(reader.read(source).label, mask)


def test_slices_that_are_sheared_or_a_little_uneven(tmp_path: Path) -> None:
    heights = (0.0, 2.3, 4.8, 7.3, 9.8)
    stack(tmp_path / "s", values((5, 6, 9)))
    for number, height in enumerate(heights):
        path = tmp_path / "s" / f"{5 - number:03d}.dcm"
        place = [0.4 * number, -0.3 * number, height]
        changed(path, lambda data, place=place: setattr(data, "ImagePositionPatient", place))
    mask = mask_of(HEART, (9, 6, 5))
    mask[..., 1] = 1  # 0.06 of a voxel off an even grid
    write(tmp_path / "s", HEART, [mask], tmp_path / "seg")
    assert np.array_equal(label_of(tmp_path), mask)


def moved_by(offset: float) -> Callable[[Dataset], None]:
    def change(data: Dataset) -> None:
        for group in data.PerFrameFunctionalGroupsSequence:
            place = group.PlanePositionSequence[0]
            x, y, z = place.ImagePositionPatient
            place.ImagePositionPatient = [x, y, z + offset]

    return change


def swapped(data: Dataset) -> None:
    first, second = data.PerFrameFunctionalGroupsSequence[:2]
    places = second.PlanePositionSequence, first.PlanePositionSequence
    first.PlanePositionSequence, second.PlanePositionSequence = places


def of_frame(name: str, change: Callable[[Dataset], object]) -> Callable[[Dataset], object]:
    return lambda data: change(data.PerFrameFunctionalGroupsSequence[0][name][0])


def shared(name: str, change: Callable[[Dataset], object]) -> Callable[[Dataset], object]:
    return lambda data: change(data.SharedFunctionalGroupsSequence[0][name][0])


WRONG: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "fractional": (
        lambda data: setattr(data, "SegmentationType", "FRACTIONAL"),
        "is a fractional segmentation",
    ),
    "one label twice": (
        lambda data: setattr(data.SegmentSequence[1], "SegmentLabel", "RV"),
        r"can't be told apart \(RV; they are RV, RV, LV\)",
    ),
    "no label": (
        lambda data: setattr(data.SegmentSequence[1], "SegmentLabel", ""),
        r"can't be told apart \(no label",
    ),
    "one number twice": (
        lambda data: setattr(data.SegmentSequence[1], "SegmentNumber", 1),
        r"can't be told apart \(one number",
    ),
    "no segment": (
        of_frame(
            "SegmentIdentificationSequence", lambda one: setattr(one, "ReferencedSegmentNumber", 9)
        ),
        "a frame of segment 9, which it does not describe",
    ),
    "between slices": (
        moved_by(1.0),
        r"a frame beside the slices of its image \(1 mm from 001.dcm",
    ),
    "beyond the slices": (
        moved_by(-25.0),
        r"a frame beside the slices of its image \(17\.5 mm from 004.dcm",
    ),
    "in the slice of another source": (
        swapped,
        r"lies in slice 2 but was made from slice 3 \(001.dcm\)",
    ),
    "turned": (
        shared(
            "PlaneOrientationSequence",
            lambda one: setattr(one, "ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]),
        ),
        "a frame beside the slices",
    ),
    "another spacing": (
        shared("PixelMeasuresSequence", lambda one: setattr(one, "PixelSpacing", [0.5, 0.8])),
        "a frame beside the slices",
    ),
    "no spacing": (
        shared("PixelMeasuresSequence", lambda one: delattr(one, "PixelSpacing")),
        "does not say where its pixels lie",
    ),
    "two frames in a slice": (
        lambda data: data.PerFrameFunctionalGroupsSequence.__setitem__(
            0, data.PerFrameFunctionalGroupsSequence[1]
        ),
        "two frames of 'RV' in one slice",
    ),
    "too few bits": (
        lambda data: setattr(data, "PixelData", b"\0" * 20),
        "20 bytes of pixels where",
    ),
    "too many frames": (
        lambda data: setattr(data, "NumberOfFrames", 10**6),
        "of its 1000000 frames where they lie",
    ),
    "another size": (lambda data: setattr(data, "Columns", 8), "8 x 6 pixels but its image"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_can_t_be_laid_on_the_image_is_refused(tmp_path: Path, what: str) -> None:
    path, _ = one(tmp_path)
    change, said = WRONG[what]
    changed(path, change)
    with pytest.raises(SegprefError, match=said):
        label_of(tmp_path)


def test_a_source_that_is_elsewhere_is_refused(tmp_path: Path) -> None:
    path, _ = one(tmp_path)
    group = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence[0]
    gone = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    for file in (tmp_path / "s").iterdir():
        if pydicom.dcmread(file).SOPInstanceUID == gone:
            file.unlink()
    with pytest.raises(
        SegprefError, match=f"made from the image {gone}, which is not in the series of"
    ):
        label_of(tmp_path)
    for file in (tmp_path / "s").iterdir():
        file.unlink()
    stack(tmp_path / "s", values((4, 6, 9)), SeriesInstanceUID="1.9.1.7")
    with pytest.raises(SegprefError, match=r"refers to the series 1\.9\.1\.1, which is not below"):
        Exports(tmp_path)


def test_a_frame_without_a_place_lies_where_its_source_does(tmp_path: Path) -> None:
    path, mask = one(tmp_path)

    def drop(data: Dataset) -> None:
        for group in data.PerFrameFunctionalGroupsSequence:
            del group.PlanePositionSequence

    changed(path, drop)
    assert np.array_equal(label_of(tmp_path), mask)

    def lose(data: Dataset) -> None:
        for group in data.PerFrameFunctionalGroupsSequence:
            del group.DerivationImageSequence

    changed(path, lose)
    with pytest.raises(SegprefError, match="does not say where it lies"):
        label_of(tmp_path)


def test_structures_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    path, _ = one(tmp_path)
    listed = r"\(segments: RV, MYO, LV; structures: RV, LV\)"
    with pytest.raises(SegprefError, match=f"the segment 'MYO', which is no structure {listed}"):
        Exports(tmp_path, names=("background", "RV", "LV"))
    with pytest.raises(SegprefError, match="no segment 'LA'"):
        Exports(tmp_path, names=("background", "RV", "MYO", "LV", "LA"))
    again = path.with_name("again.dcm")
    again.write_bytes(path.read_bytes())
    changed(again, lambda data: setattr(data, "SOPInstanceUID", "1.2.3"))
    with pytest.raises(SegprefError, match="the segment 'RV' twice"):
        Exports(tmp_path)


def test_a_series_whose_segmentation_is_cut_off_is_named(tmp_path: Path) -> None:
    path, _ = one(tmp_path)
    whole = path.read_bytes()
    for end in range(200, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(SegprefError):
            label_of(tmp_path)


def test_pictures_and_nifti_are_no_export(tmp_path: Path) -> None:
    nifti(tmp_path / "images" / "a.nii.gz", values((4, 5, 6)))
    nifti(tmp_path / "labels" / "a.nii.gz", np.ones((4, 5, 6), np.uint8))
    assert not isinstance(open_dataset(tmp_path), Exports)
