"""Single files and DICOM series: values, axes, geometry."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from written import MM, dicom, grey, nifti, picture, series

from segpref.data import file_stem, read_volume


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_values_and_geometry_are_the_file_s(tmp_path: Path, ending: str) -> None:
    array = grey((4, 5, 6), dtype=np.int16)
    volume = read_volume(nifti(tmp_path / f"a{ending}", array))
    assert volume.array.shape == (1, 4, 5, 6)
    assert np.array_equal(volume.array[0], array)
    assert np.array_equal(volume.affine, MM)
    assert volume.spacing_mm == pytest.approx((1.5, 1.5, 8))


def test_scaled_nifti_gives_scaled_values(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(8, dtype=np.float32).reshape(2, 2, 2) * 0.5 - 3, MM)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii")
    found = read_volume(tmp_path / "a.nii").array[0]
    assert np.allclose(found, np.arange(8).reshape(2, 2, 2) * 0.5 - 3, atol=1e-3)


def test_trailing_axes_of_one_go_and_channels_come_first(tmp_path: Path) -> None:
    array = grey((3, 4, 5, 1))
    assert read_volume(nifti(tmp_path / "a.nii", array)).array.shape == (1, 3, 4, 5)
    array = grey((3, 4, 5, 2))
    found = read_volume(nifti(tmp_path / "b.nii", array)).array
    assert found.shape == (2, 3, 4, 5)
    assert np.array_equal(found[1], array[..., 1])


@pytest.mark.parametrize(
    ("affine", "unit", "codes", "known"),
    [
        (np.eye(4), "unknown", (0, 2), False),  # what nibabel writes when it is told nothing
        (np.eye(4), "unknown", (0, 0), False),
        (np.eye(4), "mm", (0, 2), True),
        (np.diag([1, 1, 1.5, 1]), "unknown", (0, 2), True),
        (MM, "unknown", (0, 0), True),
        (np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1.0]]), "mm", (1, 1), True),
    ],
)
def test_voxel_size_is_unknown_only_where_the_header_tells_nothing(
    tmp_path: Path, affine: np.ndarray, unit: str, codes: tuple[int, int], known: bool
) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((3, 4, 5))
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    header.set_qform(affine, codes[0])
    header.set_sform(affine, codes[1])
    header.set_xyzt_units(unit)
    nib.save(nib.Nifti1Image(grey((3, 4, 5)), None, header), tmp_path / "a.nii.gz")
    spacing = read_volume(tmp_path / "a.nii.gz").spacing_mm
    assert (spacing is not None) == known
    if known:
        assert spacing == pytest.approx(np.linalg.norm(affine[:3, :3], axis=0))


@settings(max_examples=20)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99))
@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_pictures_are_row_column(
    tmp_path_factory: pytest.TempPathFactory, ending: str, rows: int, columns: int, seed: int
) -> None:
    array = grey((rows, columns), seed)
    path = picture(tmp_path_factory.mktemp("pictures") / f"a{ending}", array)
    volume = read_volume(path)
    assert np.array_equal(volume.array, array[None])
    assert volume.affine is None
    assert volume.spacing_mm is None


def test_colour_pictures_give_channels_grey_or_labels(tmp_path: Path) -> None:
    array = grey((4, 6, 3))
    path = picture(tmp_path / "a.png", array)
    assert np.array_equal(read_volume(path).array, np.moveaxis(array, -1, 0))
    luminance = array @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_volume(path, "grey").array[0] - luminance).max() <= 1
    equal = picture(tmp_path / "b.png", np.repeat(array[..., :1], 3, axis=2))
    for colours in ("grey", "labels"):
        assert np.array_equal(read_volume(equal, colours).array[0], array[..., 0])
    seen_through = picture(tmp_path / "c.png", np.dstack([array, np.full((4, 6), 9, np.uint8)]))
    assert np.array_equal(read_volume(seen_through).array, np.moveaxis(array, -1, 0))


def test_palettes_are_indices_as_labels_and_shades_as_grey(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 255, 255, 255, 90, 90, 90])
    image.save(tmp_path / "a.png")
    assert read_volume(tmp_path / "a.png", "grey").array[0].tolist() == [[0, 255, 90]]
    assert read_volume(tmp_path / "a.png").array[:, 0, 2].tolist() == [90, 90, 90]
    image.putpalette([0, 0, 0, 255, 255, 255, 90, 0, 0])
    image.save(tmp_path / "b.png")
    assert read_volume(tmp_path / "b.png", "labels").array[0].tolist() == [[0, 1, 2]]


def test_sixteen_bits_and_one_bit_survive(tmp_path: Path) -> None:
    deep = np.array([[0, 300], [65535, 7]], dtype=np.uint16)
    assert np.array_equal(read_volume(picture(tmp_path / "a.png", deep), "grey").array[0], deep)
    flat = np.array([[0, 255], [255, 255]], dtype=np.uint8)
    path = picture(tmp_path / "b.png", flat, mode="1")
    assert np.array_equal(read_volume(path, "grey").array[0], flat)
    assert np.array_equal(read_volume(path, "labels").array[0], flat > 0)


def test_tiff_stack_is_a_volume(tmp_path: Path) -> None:
    array = grey((3, 5, 7), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    assert np.array_equal(read_volume(tmp_path / "a.tif").array, array[None])


def test_series_is_sorted_by_position_and_lies_where_dicom_says(tmp_path: Path) -> None:
    stack = grey((4, 5, 6), dtype=np.uint16)  # slice, row, column
    folder = series(tmp_path / "s", stack, RescaleSlope=2, RescaleIntercept=-1000)
    (folder / "notes.txt").write_text("not an image")
    volume = read_volume(folder)
    assert np.array_equal(volume.array[0], stack.transpose(2, 1, 0) * 2.0 - 1000)
    assert volume.spacing_mm == pytest.approx((0.75, 0.5, 2.5))
    assert volume.affine is not None
    # DICOM PS3.3 C.7.6.2.1.1: position = origin + column * 0.75 * x + row * 0.5 * y, LPS to RAS.
    for column, row, slab in [(0, 0, 0), (5, 0, 0), (0, 4, 3), (2, 3, 1)]:
        lps = np.array([-10 + 0.75 * column, 20 + 0.5 * row, 5 + 2.5 * slab])
        ras = volume.affine @ [column, row, slab, 1]
        assert ras[:3] == pytest.approx(lps * [-1, -1, 1])


def test_oblique_series(tmp_path: Path) -> None:
    row, column = np.array([0.6, 0.8, 0.0]), np.array([0.0, 0.0, -1.0])
    normal = np.cross(row, column)
    stack = grey((3, 4, 5), dtype=np.uint16)
    for number, pixels in enumerate(stack):
        dicom(
            tmp_path / f"{2 - number}.dcm",
            pixels,
            "1.2",
            3.0 * number * normal,
            ImageOrientationPatient=[*row, *column],
        )
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array[0], stack.transpose(2, 1, 0))
    flip = np.diag([-1.0, -1, 1])
    wanted = np.stack([0.75 * flip @ row, 0.5 * flip @ column, 3 * flip @ normal], axis=1)
    assert volume.affine is not None
    assert np.allclose(volume.affine[:3, :3], wanted, atol=1e-6)


def test_single_slice_and_radiograph(tmp_path: Path) -> None:
    pixels = grey((4, 6), dtype=np.uint16)
    one = dicom(tmp_path / "a.dcm", pixels, "1.2", (0, 0, 0), SliceThickness=4)
    volume = read_volume(one)
    assert volume.array.shape == (1, 6, 4, 1)
    assert volume.spacing_mm == pytest.approx((0.75, 0.5, 4))
    dark = dicom(tmp_path / "b.dcm", pixels, "1.3", None, PhotometricInterpretation="MONOCHROME1")
    volume = read_volume(dark)
    assert np.array_equal(volume.array[0], 4095.0 - pixels)
    assert volume.affine is None
    assert volume.spacing_mm == pytest.approx((0.5, 0.75))


def test_stems_lose_the_whole_ending() -> None:
    assert file_stem(Path("x/a.b.nii.gz")) == "a.b"
    assert file_stem(Path("a.nii")) == "a"
    assert file_stem(Path("benign (1).png")) == "benign (1)"
