"""DICOM headers as writers leave them: empty values, padding, sizes measured elsewhere, no preamble."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import image, replaced, save, stack, values
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
)

from segpref.data import Cache, Images, Preparation, prepare, read_volume
from segpref.types import LabelSpace, SegprefError

SLICES = values((3, 4, 6))
NEEDED_BY_PIXELS = (
    "PixelRepresentation",
    "BitsStored",
    "SamplesPerPixel",
    "PhotometricInterpretation",
)


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"RescaleSlope": "", "RescaleIntercept": ""}, (1, 0)),
        ({"RescaleSlope": "", "RescaleIntercept": "-1024"}, (1, -1024)),
        ({"RescaleSlope": "2", "RescaleIntercept": ""}, (2, 0)),
        ({"RescaleSlope": ["2", "2"]}, (2, 0)),
    ],
)
def test_an_empty_rescale_tag_counts_as_missing(tmp_path: Path, tags, wanted) -> None:
    read = read_volume(stack(tmp_path / "s", SLICES, **tags))
    slope, intercept = wanted
    assert np.array_equal(read.array[0], SLICES.transpose(2, 1, 0) * float(slope) + intercept)


@pytest.mark.parametrize(
    "tag",
    [
        "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "StudyDate", "Modality", "InstanceNumber",
        "SeriesNumber", "SeriesDescription", "ImageType", "FrameOfReferenceUID", "SliceThickness",
        "SpacingBetweenSlices", "NumberOfFrames", "SamplesPerPixel", "ImagerPixelSpacing",
        "RescaleSlope", "PixelRepresentation", "BitsStored", "PhotometricInterpretation",
        "SOPInstanceUID", "WindowCenter",
    ],
)  # fmt: skip
def test_any_other_tag_may_be_empty(tmp_path: Path, tag: str) -> None:
    folder = stack(tmp_path / "in" / "s", SLICES)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        setattr(data, tag, None)
        data.save_as(path)
    reader = Images(tmp_path / "in")
    (source,) = reader.sources()
    if tag in NEEDED_BY_PIXELS:
        with pytest.raises(
            SegprefError, match=r"the pixels of .*001\.dcm|the pixels of .*003\.dcm"
        ):
            reader.read(source)
        return
    assert np.array_equal(reader.read(source).image[0], SLICES.transpose(2, 1, 0))


def test_numbers_may_be_padded_with_zero_bytes(tmp_path: Path) -> None:
    folder = stack(tmp_path / "s", SLICES, RescaleSlope="2.00", RescaleIntercept="33.0")
    for path in folder.iterdir():
        replaced(replaced(path, b"2.00", b"2.0\0"), b"33.0", b"33\0\0")
        replaced(path, b"0.5\\0.75", b"0.5\\.75\0")
    read = read_volume(folder)
    assert np.array_equal(read.array[0], SLICES.transpose(2, 1, 0) * 2.0 + 33)
    assert read.spacing_mm == pytest.approx((0.75, 0.5, 2.5))


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (
            {"RescaleSlope": ["1.0", "0"]},
            r"states 2 values of RescaleSlope \(1\\0\) where one is due",
        ),
        ({"RescaleSlope": "0"}, "a RescaleSlope of 0"),
        (
            {"PixelSpacing": ["1", "1", "1"]},
            r"3 values of PixelSpacing \(1\\1\\1\) where 2 are due",
        ),
        ({"PixelSpacing": ["1"]}, "1 values of PixelSpacing"),
        ({"ImagePositionPatient": [1, 2]}, "2 values of ImagePositionPatient"),
        ({"ImagePositionPatient": None}, r"does not say where its slice lies \(ImagePos"),
        ({"ImageOrientationPatient": None}, r"does not say where its slice lies \(ImageOri"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not at right angles"),
    ],
)
def test_what_can_not_be_is_one_sentence(tmp_path: Path, tags, said: str) -> None:
    with pytest.raises(SegprefError, match=said) as caught:
        read_volume(stack(tmp_path / "s", SLICES, **tags))
    assert "export" in str(caught.value)
    assert "pylibjpeg" not in str(caught.value)


@pytest.mark.parametrize(
    ("tags", "wanted", "said"),
    [
        ({"PixelSpacing": [0.5, 0.75]}, (0.5, 0.75), None),
        ({"PixelSpacing": [0.5, 0.75], "ImagerPixelSpacing": [1, 1]}, (0.5, 0.75), None),
        ({"ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "measured at the detector"),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "at the detector"),
        ({"NominalScannedPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "measured on the film"),
        ({"ImagerPixelSpacing": ""}, None, None),
        ({"PixelSpacing": [0, 0]}, None, None),
        ({}, None, None),
    ],
)
def test_pixel_size_of_a_radiograph(tmp_path: Path, tags, wanted, said, caplog) -> None:
    data = image(SLICES[0])
    for name, value in tags.items():
        setattr(data, name, value)
    save(tmp_path / "in" / "a.dcm", data)
    with caplog.at_level(logging.WARNING):
        assert read_volume(tmp_path / "in" / "a.dcm").spacing_mm == wanted
    assert (said in caplog.text) if said else not caplog.records
    # From the cache it is said again.
    space = LabelSpace("multi-class", ("background", "a"))
    for _ in range(2):
        caplog.clear()
        (made,) = prepare(
            Images(tmp_path / "in"), Preparation(), Cache(tmp_path / "c"), space
        ).volumes
        assert (said in caplog.text) if said else not caplog.records
        assert (made.spacing_mm is None) == (wanted is None)


def test_slices_without_a_pixel_size_have_no_voxel_size(tmp_path: Path, caplog) -> None:
    assert read_volume(stack(tmp_path / "a", SLICES, PixelSpacing=None)).spacing_mm is None
    measured = stack(tmp_path / "b", SLICES, PixelSpacing=None, ImagerPixelSpacing=[0.2, 0.3])
    read = read_volume(measured)
    assert read.spacing_mm == pytest.approx((0.3, 0.2, 2.5))
    assert "measured at the detector" in caplog.text


def test_one_slice_without_a_thickness_has_no_voxel_size(tmp_path: Path, caplog) -> None:
    one = SLICES[:1]
    thick = read_volume(stack(tmp_path / "a", one, SliceThickness=4))
    apart = read_volume(stack(tmp_path / "b", one, SpacingBetweenSlices=3, SliceThickness=""))
    assert thick.spacing_mm == pytest.approx((0.75, 0.5, 4))
    assert apart.spacing_mm == pytest.approx((0.75, 0.5, 3))
    assert not caplog.records
    assert read_volume(stack(tmp_path / "c", one)).spacing_mm is None
    assert "states no thickness" in caplog.text


@pytest.mark.parametrize("name", ["a", "a.dcm", "1.2.840.10", "IM_0001.IMA"])
@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_files_without_a_preamble(tmp_path: Path, name: str, syntax) -> None:
    data = image(SLICES[0], PixelSpacing=[0.5, 0.75])
    if syntax == ExplicitVRBigEndian:
        data.PixelData = SLICES[0].astype(">u2").tobytes()
    save(tmp_path / name, data, syntax, preamble=False)
    (tmp_path / "notes").write_text("\x08 no image")
    (tmp_path / "b.bin").write_bytes(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100")
    reader = Images(tmp_path)
    (source,) = reader.sources()
    assert np.array_equal(reader.read(source).image[0], SLICES[0])
    assert source.id == ("IM_0001" if "IMA" in name else "a" if name[0] == "a" else name)


def test_no_file_of_pixels_is_no_image(tmp_path: Path) -> None:
    data = image(SLICES[0], SOPClassUID=SegmentationStorage)
    path = save(tmp_path / "a.dcm", data)
    with pytest.raises(SegprefError, match=r"a\.dcm is no image \(Segmentation Storage\): "):
        read_volume(path)
