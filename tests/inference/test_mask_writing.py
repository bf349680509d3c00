"""Masks go back with the geometry of their input, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import from_matvec
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from segpref.data import mask_paths, read_volume
from segpref.inference import write_mask
from segpref.types import IGNORE, Case, LabelSpace, SegprefError

CLASSES = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
STRUCTURES = LabelSpace("multi-label", ("left lung", "heart"))
GEOMETRY = (
    "pixdim",
    "xyzt_units",
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
)


def mask_of(shape: tuple[int, ...], values: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, values, size=shape).astype(np.uint8)


def save_image(
    path: Path, affine: np.ndarray, codes: tuple[int, int], shape: tuple[int, ...] = (3, 4, 5)
) -> Any:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header.set_qform(affine, codes[0])
    header.set_sform(affine, codes[1])
    header.set_xyzt_units("mm", "sec")
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), None, header), path)
    return nib.load(path)


angles = st.floats(-180, 180, allow_nan=False)
sizes = st.floats(0.1, 12, allow_nan=False)


@settings(max_examples=60)
@given(
    euler=st.tuples(angles, angles, angles),
    zooms=st.tuples(sizes, sizes, sizes),
    mirrored=st.booleans(),
    offset=st.tuples(*[st.floats(-500, 500)] * 3),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    ending=st.sampled_from([".nii", ".nii.gz"]),
)
def test_round_trip_keeps_every_geometric_field(
    tmp_path_factory: pytest.TempPathFactory,
    euler: tuple[float, ...],
    zooms: tuple[float, ...],
    mirrored: bool,
    offset: tuple[float, ...],
    codes: tuple[int, int],
    ending: str,
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    turn = Rotation.from_euler("xyz", euler, degrees=True).as_matrix()
    matrix = turn @ np.diag(np.array(zooms) * [-1 if mirrored else 1, 1, 1])
    original = save_image(folder / f"in{ending}", from_matvec(matrix, offset), codes)
    mask = mask_of((1, 3, 4, 5))
    (path,) = write_mask(folder / f"out{ending}", mask, CLASSES, folder / f"in{ending}")
    written = nib.load(path)
    for name in GEOMETRY:
        assert np.array_equal(written.header[name], original.header[name]), name
    assert np.array_equal(written.affine, original.affine)
    assert written.header.get_zooms() == original.header.get_zooms()
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(written.dataobj), mask[0])


def test_inconsistent_sform_and_qform_both_survive(tmp_path: Path) -> None:
    save_image(tmp_path / "a.nii", np.diag([1.0, 1, 1, 1]), (1, 2))
    image = nib.load(tmp_path / "a.nii")
    header = image.header.copy()
    header.set_sform(np.diag([2.0, 3, 4, 1]), 2)
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.float32), None, header), tmp_path / "b.nii")
    write_mask(tmp_path / "m.nii", mask_of((1, 3, 4, 5)), CLASSES, tmp_path / "b.nii")
    written, original = nib.load(tmp_path / "m.nii"), nib.load(tmp_path / "b.nii")
    assert np.array_equal(written.get_sform(), original.get_sform())
    assert np.array_equal(written.get_qform(), original.get_qform())
    assert not np.allclose(written.get_sform(), written.get_qform())


def test_scaling_byte_order_and_channels_of_the_input_do_not_leak(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_shape((3, 4, 5, 2))
    header.set_data_dtype(np.int16)
    header.set_sform(np.diag([2.0, 2, 3, 1]), 1)
    header.set_zooms((2, 2, 3, 7))
    image = nib.Nifti1Image(np.linspace(-1, 1, 120).reshape(3, 4, 5, 2), None, header)
    image.header["cal_max"] = 40
    nib.save(image, tmp_path / "a.nii.gz")
    mask = mask_of((1, 3, 4, 5))
    mask[0, 0, 0, 0] = IGNORE
    write_mask(tmp_path / "m.nii.gz", mask, CLASSES, tmp_path / "a.nii.gz")
    written = nib.load(tmp_path / "m.nii.gz")
    assert written.shape == (3, 4, 5)
    assert np.array_equal(written.get_fdata(), mask[0])
    assert written.header["cal_max"] == 0
    assert written.header.get_zooms() == (2, 2, 3)


def test_header_without_geometry_stays_without(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    case = Case(
        id="a", patient="a", volume="a", image=volume.array, affine=volume.affine, spacing_mm=None
    )
    for like in (case, tmp_path / "a.nii.gz"):
        write_mask(tmp_path / "m.nii.gz", mask_of((1, 3, 4, 5)), CLASSES, like)
        written, original = nib.load(tmp_path / "m.nii.gz"), nib.load(tmp_path / "a.nii.gz")
        for name in GEOMETRY:
            assert np.array_equal(written.header[name], original.header[name]), name


def test_case_with_geometry(tmp_path: Path) -> None:
    affine = from_matvec(
        Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix() @ np.diag([-1, 2, 3.0]),
        (4, 5, 6),
    )
    image = np.zeros((1, 3, 4, 5), np.float32)
    case = Case(id="a", patient="a", volume="a", image=image, affine=affine, spacing_mm=(1, 2, 3))
    write_mask(tmp_path / "deep" / "m.nii", mask_of((1, 3, 4, 5)), CLASSES, case)
    written = nib.load(tmp_path / "deep" / "m.nii")
    assert np.allclose(written.affine, affine, atol=1e-5)
    assert np.allclose(written.get_qform(), affine, atol=1e-5)
    assert written.header.get_xyzt_units()[0] == "mm"


def write_series(folder: Path, stack: np.ndarray) -> None:
    folder.mkdir()
    for number, pixels in enumerate(stack):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SeriesInstanceUID, data.SOPClassUID = "1.2.3", CTImageStorage
        data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelSpacing, data.ImageOrientationPatient = [0.5, 0.75], [1, 0, 0, 0, 0.8, -0.6]
        data.ImagePositionPatient = list(
            np.array([3.0, -4, 5]) + number * 2 * np.array([0, 0.6, 0.8])
        )
        data.PixelData = pixels.astype("<u2").tobytes()
        pydicom.dcmwrite(folder / f"{9 - number}.dcm", data, enforce_file_format=True)


def test_dicom_series_gives_nifti_in_its_place(tmp_path: Path) -> None:
    write_series(tmp_path / "s", mask_of((3, 5, 4), 99))
    mask = mask_of((1, 4, 5, 3))
    write_mask(tmp_path / "m.nii.gz", mask, CLASSES, tmp_path / "s")
    written = nib.load(tmp_path / "m.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), mask[0])
    assert written.header.get_zooms() == pytest.approx((0.75, 0.5, 2))
    last = written.affine @ [3, 4, 2, 1]
    lps = np.array(
        [3 + 0.75 * 3, -4 + 0.5 * 4 * 0.8 + 2 * 2 * 0.6, 5 - 0.5 * 4 * 0.6 + 2 * 2 * 0.8]
    )
    assert last[:3] == pytest.approx(lps * [-1, -1, 1], abs=1e-5)


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_pictures_hold_class_numbers(tmp_path: Path, ending: str) -> None:
    Image.fromarray(mask_of((6, 8), 99)).save(tmp_path / "a.png")
    mask = mask_of((1, 6, 8))
    mask[0, 0, 0] = IGNORE
    (path,) = write_mask(tmp_path / f"m{ending}", mask, CLASSES, tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(path)), mask[0])


def test_stacks_of_pages(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", mask_of((3, 6, 8), 99), photometric="minisblack")
    mask = mask_of((1, 3, 6, 8))
    write_mask(tmp_path / "m.tif", mask, CLASSES, tmp_path / "a.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "m.tif"), mask[0])


def test_structures_that_overlap_get_a_file_each(tmp_path: Path) -> None:
    mask = np.ones((2, 6, 8), np.uint8)
    mask[1, :3] = 0
    Image.fromarray(mask_of((6, 8), 99)).save(tmp_path / "a.png")
    paths = write_mask(tmp_path / "m.png", mask, STRUCTURES, tmp_path / "a.png")
    assert [path.name for path in paths] == ["m_left_lung.png", "m_heart.png"]
    assert paths == mask_paths(tmp_path / "m.png", STRUCTURES)
    for path, field in zip(paths, mask, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), field * 255)
    original = save_image(tmp_path / "a.nii.gz", np.diag([1.0, 2, 3, 1]), (1, 1), (3, 4, 5))
    deep = mask_of((2, 3, 4, 5), 2)
    paths = write_mask(tmp_path / "m.nii.gz", deep, STRUCTURES, tmp_path / "a.nii.gz")
    assert [path.name for path in paths] == ["m_left_lung.nii.gz", "m_heart.nii.gz"]
    for path, field in zip(paths, deep, strict=True):
        assert np.array_equal(np.asarray(nib.load(path).dataobj), field)
        assert np.array_equal(nib.load(path).affine, original.affine)


def test_failed_write_leaves_the_old_file_and_no_scraps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_image(tmp_path / "a.nii", np.eye(4), (1, 1))
    old = mask_of((1, 3, 4, 5), seed=1)
    write_mask(tmp_path / "m.nii", old, CLASSES, tmp_path / "a.nii")

    def full_disk(self: Any, path: Path, *_: Any, **__: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_filename", full_disk)
    with pytest.raises(SegprefError, match=r"m.nii cannot be written \(No space left on device\)"):
        write_mask(tmp_path / "m.nii", mask_of((1, 3, 4, 5)), CLASSES, tmp_path / "a.nii")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "m.nii"]
    assert np.array_equal(np.asarray(nib.load(tmp_path / "m.nii").dataobj), old[0])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "a.nii", np.eye(4), (1, 1))
    Image.fromarray(mask_of((6, 8), 99)).save(tmp_path / "a.png")
    flat, deep = mask_of((1, 6, 8)), mask_of((1, 3, 4, 5))
    with pytest.raises(SegprefError, match="write PNG or TIFF"):
        write_mask(tmp_path / "m.nii", flat, CLASSES, tmp_path / "a.png")
    with pytest.raises(SegprefError, match=r"choose \.nii\.gz"):
        write_mask(tmp_path / "m.png", deep, CLASSES, tmp_path / "a.nii")
    with pytest.raises(SegprefError, match="bring the mask back to the image's grid"):
        write_mask(tmp_path / "m.nii", deep[..., :2], CLASSES, tmp_path / "a.nii")
    with pytest.raises(SegprefError, match="bring the mask back to the image's grid"):
        write_mask(tmp_path / "m.png", flat[:, :2], CLASSES, tmp_path / "a.png")
    with pytest.raises(SegprefError, match="should hold 2 fields but the mask has 1"):
        write_mask(tmp_path / "m.nii", deep, STRUCTURES, tmp_path / "a.nii")
    unsure = np.full((2, 6, 8), IGNORE, np.uint8)
    with pytest.raises(SegprefError, match="cannot tell ignored pixels"):
        write_mask(tmp_path / "m.png", unsure, STRUCTURES, tmp_path / "a.png")
