"""Pixels of DICOM files: number types, byte orders, compression, decoders that are missing."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import image, save, stack, values
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SMPTEST211020UncompressedProgressiveActiveVideo,
)

from segpref.data import read_volume
from segpref.types import SegprefError

PIXELS = values((8, 10))


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_byte_orders_and_deflated_files(tmp_path: Path, syntax) -> None:
    data = image(PIXELS)
    if syntax == ExplicitVRBigEndian:
        data.PixelData = PIXELS.astype(">u2").tobytes()
    assert np.array_equal(read_volume(save(tmp_path / "a", data, syntax)).array[0], PIXELS)


def test_signed_values_of_12_bits(tmp_path: Path) -> None:
    signed = PIXELS.astype(np.int16) - 2048
    path = save(tmp_path / "a", image(signed, RescaleSlope=2, RescaleIntercept=1))
    assert np.array_equal(read_volume(path).array[0], signed * 2.0 + 1)
    # The same where the sign is not continued in the four bits above, and where other things are.
    for number, above in enumerate((0, 0x5000)):
        data = image(signed)
        data.PixelData = ((signed.view(np.uint16) & 0x0FFF) | above).astype("<u2").tobytes()
        path = save(tmp_path / f"b{number}", data)
        assert np.array_equal(read_volume(path).array[0], signed)
    data = image(PIXELS)
    data.PixelData = (PIXELS | 0x8000).astype("<u2").tobytes()
    assert np.array_equal(read_volume(save(tmp_path / "c", data)).array[0], PIXELS)
    dark = save(tmp_path / "d", image(signed, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(read_volume(dark).array[0], -1.0 - signed)


def test_padding_is_a_value_as_others(tmp_path: Path) -> None:
    pixels = PIXELS.astype(np.int16) - 2000
    pixels[:2] = -2000
    data = image(pixels, RescaleSlope=1, RescaleIntercept=-1024)
    data.add_new("PixelPaddingValue", "SS", -2000)
    assert read_volume(save(tmp_path / "a", data)).array.min() == -3024


def test_each_slice_has_its_own_rescaling(tmp_path: Path) -> None:
    volume = values((3, 4, 6))
    folder = stack(tmp_path / "s", volume)
    for number, path in enumerate(sorted(folder.iterdir())):
        data = dcmread(path)
        data.RescaleSlope, data.RescaleIntercept = number + 1, -number
        data.save_as(path)
    wanted = volume * np.array([3.0, 2, 1])[:, None, None] - np.array([2, 1, 0])[:, None, None]
    assert np.array_equal(read_volume(folder).array[0], wanted.transpose(2, 1, 0))


def test_a_table_of_values_takes_the_place_of_rescaling(tmp_path: Path) -> None:
    data, table = image(PIXELS), Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.add_new("LUTData", "US", [(value * 7) % 5000 for value in range(4096)])
    table.ModalityLUTType = "US"
    data.ModalityLUTSequence = [table]
    wanted = PIXELS.astype(int) * 7 % 5000
    assert np.array_equal(read_volume(save(tmp_path / "a.dcm", data)).array[0], wanted)


def by_gdcm(path: Path, pixels: np.ndarray, compressor: str) -> Path:
    """A compressed file, which GDCM writes."""
    made = sitk.GetImageFromArray(pixels)
    made.SetMetaData("0008|0016", "1.2.840.10008.5.1.4.1.1.2")
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(made)
    return path


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_files(tmp_path: Path, compressor: str, signed: bool) -> None:
    pixels = PIXELS.astype(np.int16) - 2000 if signed else PIXELS
    path = by_gdcm(tmp_path / "a.dcm", pixels, compressor)
    data = dcmread(path)
    assert data.file_meta.TransferSyntaxUID.is_compressed
    data.RescaleSlope, data.RescaleIntercept = 2, -5
    for kind in ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"):  # CT and MR
        data.SOPClassUID = kind
        data.save_as(path)
        assert np.array_equal(read_volume(path).array.reshape(-1), _flat(pixels, path) * 2.0 - 5)


def _flat(pixels: np.ndarray, path: Path) -> np.ndarray:
    """In the order in which the file is read: GDCM writes a place in space, too."""
    return (pixels.T if "ImagePositionPatient" in dcmread(path) else pixels).reshape(-1)


def test_jpeg_ls(tmp_path: Path) -> None:
    # Encoded by CharLS.
    stream = (
        "/9j/9wALDAAGAAgBAREA/9oACAEBAAAAAIymVRqEyqNQgAAHAzKRRKBPJwzAAAHBNJhLJRJJBSGXI5GIpEIZCKIyxBID"
        "+/Pr4UClXt6eXh3dieD/2Q=="
    )
    pixels = (np.arange(48).reshape(6, 8) * 83 % 4096).astype(np.uint16)
    path = by_hand(tmp_path / "a.dcm", JPEGLSLossless, pixels, base64.b64decode(stream))
    assert np.array_equal(read_volume(path).array[0], pixels)


def test_run_lengths(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", image(PIXELS))
    data = dcmread(path)
    data.compress(RLELossless)
    data.save_as(path)
    assert np.array_equal(read_volume(path).array[0], PIXELS)


@pytest.mark.parametrize(
    ("syntax", "fix"),
    [
        (JPEGLosslessSV1, r"pip install 'segpref\[dicom\]'"),
        (HTJ2KLossless, "pip install pylibjpeg pylibjpeg-openjpeg"),
        (MPEG2MPML, "export its frames as images, for it is a video"),
        (SMPTEST211020UncompressedProgressiveActiveVideo, "export it without compression"),
    ],
)
def test_a_decoder_that_is_missing_is_named(tmp_path: Path, syntax, fix: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    path = by_hand(tmp_path / "a.dcm", syntax, PIXELS, b"\xff\xd8\xff\xf7" + bytes(60))
    with pytest.raises(SegprefError, match=f"nothing installed here decodes: {fix}"):
        read_volume(path)


def test_damaged_pixels_are_no_matter_of_packages(tmp_path: Path) -> None:
    path = by_gdcm(tmp_path / "a.dcm", PIXELS, "JPEG2000")
    data = dcmread(path)
    data.PixelData = data.PixelData[:40] + bytes(len(data.PixelData) - 40)
    data.save_as(path)
    for one in (path, save(tmp_path / "b.dcm", image(PIXELS))):
        if one.name == "b.dcm":
            one.write_bytes(one.read_bytes()[:-20])
        with pytest.raises(
            SegprefError, match=rf"{one.name} cannot be decoded .*export the"
        ) as said:
            read_volume(one)
        assert "install" not in str(said.value)


def by_hand(path: Path, syntax, pixels: np.ndarray, stream: bytes) -> Path:
    data = image(pixels)
    data.PixelData = encapsulate([stream])
    data["PixelData"].VR = "OB"
    return save(path, data, syntax)


def test_a_deflated_file_that_would_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousandth of what it holds is enough to write it; nothing of it is kept to find out."""
    large = np.zeros((2000, 2000), np.uint16)
    path = save(tmp_path / "a", image(large), DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < large.nbytes / 500
    assert not read_volume(path).array.any()
    monkeypatch.setattr("segpref.data.dicom_file._MOST", 1 << 20)
    with pytest.raises(
        SegprefError, match="is deflated and holds more than 1 MiB: export it withou"
    ):
        read_volume(path)
    small = save(tmp_path / "b", image(PIXELS), DeflatedExplicitVRLittleEndian)
    assert np.array_equal(read_volume(small).array[0], PIXELS)
    content = small.read_bytes()
    for broken in (content[:-20], content[:132] + b"\0" * 12 + content[144:]):
        (tmp_path / "c").write_bytes(broken)
        with pytest.raises(SegprefError, match="c is cut off or no valid DICOM file"):
            read_volume(tmp_path / "c")
