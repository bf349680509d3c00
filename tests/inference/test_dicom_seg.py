"""DICOM-SEG of masks: geometry and references by pydicom, highdicom's reader and SimpleITK."""

from __future__ import annotations

from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from tests.data.dicom_files import AXIAL, CORONAL, SAGITTAL, enhanced, image, save, stack, values
from tests.data.seg_files import OBLIQUE, frames, positions

from segpref.data import Cache, Images, MaskFolder, Preparation, read_volume
from segpref.inference import mask_format, write_mask
from segpref.types import LabelSpace, SegprefError

HEART = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
CHEST = LabelSpace("multi-label", ("left lung", "right lung", "heart"))
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def written(folder: Path, space: LabelSpace, mask: np.ndarray, out: Path) -> Path:
    """The DICOM-SEG of the one series of a folder."""
    reader = Images(folder, channels=("image",))
    (source,) = reader.sources()
    made = mask_format("dicom-seg", space, out, model="runs/rn-dpo")
    made.check(reader)
    (path,) = made.write(out / made.name(source), mask, space, source, reader.read(source))
    return path


def mask_of(space: LabelSpace, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).integers(0, space.values, (space.fields, *shape))
    made[..., 1] = 0
    return made.astype(np.uint8)


@pytest.mark.parametrize("space", [HEART, CHEST], ids=["exclusive", "overlapping"])
@pytest.mark.parametrize("turn", [AXIAL, CORONAL, SAGITTAL, OBLIQUE, tuple(-x for x in OBLIQUE)])
def test_every_frame_lies_where_its_source_slice_does(tmp_path: Path, space, turn) -> None:
    folder = stack(tmp_path / "in" / "s", values((5, 6, 9)), orientation=turn, gap_mm=3.25)
    mask = mask_of(space, (9, 6, 5))
    path = written(folder, space, mask, tmp_path / "out")
    nifti = write_mask(tmp_path / "m.nii.gz", mask, space, folder)
    affine = TO_LPS @ nib.load(nifti[0]).affine
    instances, found = positions(folder), frames(path)
    assert len(found) == 3 * 4  # the second slice is empty
    truth = space.structure_masks(mask)
    for number, label in enumerate(space.structures):
        for k in (0, 2, 3, 4):
            place = tuple((affine @ (0, 0, k, 1))[:3].round(4) + 0.0)
            pixels, source = found[label, place]
            assert np.array_equal(pixels, truth[number, :, :, k].T)
            assert source == instances[place]
    data = pydicom.dcmread(path)
    (series,) = data.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.9.1.1"
    named = {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence}
    assert named == set(instances.values())
    shared = data.SharedFunctionalGroupsSequence[0]
    assert np.allclose(shared.PlaneOrientationSequence[0].ImageOrientationPatient, turn)
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.5, 0.75]
    assert float(shared.PixelMeasuresSequence[0].SpacingBetweenSlices) == pytest.approx(3.25)
    assert data.SegmentsOverlap == ("NO" if space is HEART else "YES")


@pytest.mark.parametrize("space", [HEART, CHEST], ids=["exclusive", "overlapping"])
def test_highdicom_and_simpleitk_read_it_as_the_nifti_mask(tmp_path: Path, space) -> None:
    folder = stack(tmp_path / "in" / "s", values((5, 6, 9)), orientation=OBLIQUE, gap_mm=3.25)
    mask = mask_of(space, (9, 6, 5))
    path = written(folder, space, mask, tmp_path / "out")
    files = write_mask(tmp_path / "m.nii.gz", mask, space, folder)
    affine = TO_LPS @ nib.load(files[0]).affine
    seg = highdicom.seg.segread(path)
    volume = seg.get_volume(combine_segments=False)
    assert volume.spatial_shape == (5, 6, 9)
    # highdicom may hold slices in the other order: what counts is where each voxel lies.
    for index in np.ndindex(volume.spatial_shape):
        place = np.linalg.solve(affine, (volume.affine @ (*index, 1)))[:3]
        x, y, z = np.round(place).astype(int)
        assert np.allclose(place, (x, y, z), atol=1e-3)
        truth = space.structure_masks(mask)[:, x, y, z]
        assert np.array_equal(volume.array[index], truth)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    series = reader.Execute()
    for (label, place), (pixels, _) in frames(path).items():
        x, y, z = series.TransformPhysicalPointToIndex(place)
        assert (x, y) == (0, 0)
        truth = space.structure_masks(mask)[space.structures.index(label), :, :, z]
        assert np.array_equal(pixels, truth.T)


@pytest.mark.parametrize("space", [HEART, CHEST], ids=["exclusive", "overlapping"])
def test_a_folder_of_them_is_a_folder_of_masks(tmp_path: Path, space) -> None:
    folder, mask = stack(tmp_path / "in" / "s", values((5, 6, 9))), mask_of(space, (9, 6, 5))
    written(folder, space, mask, tmp_path / "out")
    (tmp_path / "out" / "other.dcm").write_bytes(b"no segmentation")
    reader = Images(tmp_path / "in", channels=("image",))
    masks = MaskFolder(tmp_path / "out", [reader], space, Preparation(), Cache(tmp_path / "cache"))
    assert np.array_equal(masks.case(reader.sources()[0]).label, mask)
    other = LabelSpace(space.kind, (*space.names[:-1], "aorta"))
    masks = MaskFolder(tmp_path / "out", [reader], other, Preparation(), Cache(tmp_path / "cache"))
    with pytest.raises(SegprefError, match=f"has the segment '{space.names[-1]}', which is no"):
        masks.case(reader.sources()[0])


def test_a_series_has_one_mask_in_a_folder(tmp_path: Path) -> None:
    folder, mask = stack(tmp_path / "in" / "s", values((5, 6, 9))), mask_of(HEART, (9, 6, 5))
    path = written(folder, HEART, mask, tmp_path / "out")
    write_mask(path.with_suffix(".nii.gz"), mask, HEART, folder)
    reader = Images(tmp_path / "in", channels=("image",))
    with pytest.raises(SegprefError, match="are masks of one image: remove one of them"):
        MaskFolder(tmp_path / "out", [reader], HEART, Preparation(), Cache(tmp_path / "cache"))


def test_what_it_says_of_patient_model_and_structures(tmp_path: Path) -> None:
    tags = {
        "PatientName": "Müller^Änne",
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientBirthDate": "19500102",
        "AccessionNumber": "A7",
    }
    folder = stack(tmp_path / "in" / "s", values((3, 6, 9)), **tags)
    data = pydicom.dcmread(written(folder, CHEST, mask_of(CHEST, (9, 6, 3)), tmp_path / "out"))
    assert (data.Modality, data.SegmentationType) == ("SEG", "BINARY")
    assert (data.PatientID, str(data.PatientName)) == ("p1", "Müller^Änne")
    assert (data.PatientBirthDate, data.AccessionNumber) == ("19500102", "A7")
    assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == ("1.9.1", "1.9.9")
    assert data.SeriesInstanceUID != "1.9.1.1"
    assert (data.Manufacturer, data.ManufacturerModelName) == ("segpref", "runs/rn-dpo")
    lung, _, heart = data.SegmentSequence
    assert (lung.SegmentLabel, heart.SegmentLabel) == ("left lung", "heart")
    assert lung.SegmentAlgorithmType == "AUTOMATIC"
    assert lung.SegmentAlgorithmName == "runs/rn-dpo"
    kind = lung.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("39607008", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert heart.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Heart"
    assert heart.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    colour = highdicom.color.CIELabColor.from_dicom_value(heart.RecommendedDisplayCIELabValue)
    assert np.abs(np.subtract(colour.to_rgb(), (0xCE, 0x6E, 0x54))).max() <= 1
    assert "TrackingUID" not in heart


def test_an_empty_structure_is_described_and_has_no_frames(tmp_path: Path) -> None:
    folder = stack(tmp_path / "in" / "s", values((3, 6, 9)))
    mask = np.zeros((1, 9, 6, 3), np.uint8)
    mask[0, 4, 2, 1] = 2
    path = written(folder, HEART, mask, tmp_path / "out")
    assert [label for label, _ in frames(path)] == ["MYO"]
    labels = [one.SegmentLabel for one in pydicom.dcmread(path).SegmentSequence]
    assert labels == ["RV", "MYO", "LV"]


@pytest.mark.parametrize("space", [HEART, CHEST], ids=["exclusive", "overlapping"])
def test_an_empty_mask_has_one_empty_frame_per_structure(tmp_path: Path, space, caplog) -> None:
    folder = stack(tmp_path / "in" / "s", values((3, 6, 9)))
    path = written(folder, space, np.zeros((space.fields, 9, 6, 3), np.uint8), tmp_path / "out")
    assert not caplog.records
    found = frames(path)
    assert [label for label, _ in found] == list(space.structures)
    assert {place for _, place in found} == {(-10.0, 20.0, 5.0)}
    assert not any(pixels.any() for pixels, _ in found.values())
    (series,) = pydicom.dcmread(path).ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == 3


def test_frames_of_an_enhanced_file_are_referred_to(tmp_path: Path) -> None:
    heights = [4.0, 0.0, 2.0]
    file = enhanced(tmp_path / "in" / "a.dcm", values((3, 6, 9)), heights)
    data = pydicom.dcmread(file)
    data.FrameOfReferenceUID = "1.9.9"
    data.save_as(file)
    mask = mask_of(HEART, (9, 6, 3))
    path = written(tmp_path / "in", HEART, mask, tmp_path / "out")
    for (label, place), (pixels, source) in frames(path).items():
        k = sorted(heights).index(place[2])
        value = HEART.names.index(label)
        assert np.array_equal(pixels, (mask[0, :, :, k] == value).T)
        assert source == data.SOPInstanceUID
    for group in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        height = group.PlanePositionSequence[0].ImagePositionPatient[2]
        assert source.ReferencedFrameNumber == heights.index(height) + 1


def test_a_radiograph_is_one_frame_without_a_place(tmp_path: Path) -> None:
    kind = pydicom.uid.ComputedRadiographyImageStorage
    save(tmp_path / "in" / "a.dcm", image(values((6, 9)), SOPClassUID=kind, Modality="CR"))
    mask = mask_of(CHEST, (6, 9))
    data = pydicom.dcmread(written(tmp_path / "in", CHEST, mask, tmp_path / "out"))
    assert np.array_equal(data.pixel_array, mask)
    assert data.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.9.1.1"


def test_names_beyond_the_source_s_characters_are_kept(tmp_path: Path) -> None:
    space = LabelSpace("multi-class", ("background", "病変"))
    folder = stack(
        tmp_path / "in" / "s", values((3, 6, 9)), PatientName="Müller",
        SpecificCharacterSet="ISO_IR 100",
    )  # fmt: skip
    table = tmp_path / "segments.csv"
    head = "structure,category_code,category_scheme,category_meaning,type_code,type_scheme,type_meaning"
    row = "病変,49755003,SCT,Morphologically Abnormal Structure,52988006,SCT,Lesion"
    table.write_text(f"{head}\n{row}\n", encoding="utf-8")
    reader = Images(folder, channels=("image",))
    (source,) = reader.sources()
    made = mask_format("dicom-seg", space, tmp_path, table)
    mask = mask_of(space, (9, 6, 3))
    (path,) = made.write(tmp_path / "a.dcm", mask, space, source, reader.read(source))
    data = pydicom.dcmread(path)
    assert (data.SegmentSequence[0].SegmentLabel, str(data.PatientName)) == ("病変", "Müller")


@pytest.mark.parametrize(
    "lacking", ["StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "PixelSpacing"]
)
def test_a_series_that_lacks_what_is_referred_to_is_refused_before(tmp_path, lacking) -> None:
    folder = stack(tmp_path / "in" / "s", values((3, 6, 9)))
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        delattr(data, lacking)
        data.save_as(path)
    made = mask_format("dicom-seg", HEART, tmp_path)
    with pytest.raises(SegprefError, match=f"states no {lacking}.*--format image"):
        made.check(Images(tmp_path / "in", channels=("image",)))


def test_what_anonymisers_drop_is_not_needed(tmp_path: Path) -> None:
    folder = stack(tmp_path / "in" / "s", values((3, 6, 9)))
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        for name in ("PatientID", "StudyDate", "Modality"):
            delattr(data, name)
        data.save_as(path)
    path = written(folder, HEART, mask_of(HEART, (9, 6, 3)), tmp_path / "out")
    assert pydicom.dcmread(path).PatientID == ""


def test_directions_that_differ_in_their_last_digits_are_one(tmp_path: Path) -> None:
    folder = stack(tmp_path / "in" / "s", values((3, 6, 9)))
    path = min(folder.iterdir())
    data = pydicom.dcmread(path)
    data.ImageOrientationPatient = [1, 0.00001, 0, -0.00001, 1, 0]
    data.save_as(path)
    mask = mask_of(HEART, (9, 6, 3))
    assert frames(written(folder, HEART, mask, tmp_path / "out"))
    assert read_volume(folder).array.shape == (1, 9, 6, 3)
