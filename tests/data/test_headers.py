"""NIfTI headers that state two geometries, and labels that have lost theirs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from written import MM, grey, nifti

from segpref.data import (
    Cache,
    Preparation,
    VolumeFile,
    check_grid,
    images_for,
    nifti_geometry,
    orientation_of,
    prepare,
    read_volume,
)
from segpref.types import Case, LabelSpace, SegprefError

SHAPE = (4, 5, 6)
REAL = np.diag([1.5, 1.5, 10, 1.0])
TURNED = np.array([[0, -1.5, 0, 9], [1.5, 0, 0, -4], [0, 0, 10, 2], [0, 0, 0, 1.0]])


def two(
    path: Path, sform: np.ndarray, qform: np.ndarray | None, codes: tuple[int, int] = (1, 1)
) -> Path:
    """A file with these two statements; without a qform pixdim is set alone."""
    image = nib.Nifti1Image(grey(SHAPE), None)
    image.header.set_xyzt_units("mm")
    image.header.set_qform(
        REAL if qform is None else qform, code=codes[1] if qform is not None else 0
    )
    image.header.set_sform(sform, code=codes[0])
    nib.save(image, path)
    return path


def test_the_size_of_the_qform_is_taken_where_the_sform_is_of_scale_1(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = two(tmp_path / "acdc.nii.gz", np.eye(4), TURNED)
    with caplog.at_level(logging.WARNING):
        volume = read_volume(path)
    assert volume.spacing_mm == pytest.approx((1.5, 1.5, 10))
    np.testing.assert_allclose(volume.affine, TURNED, atol=1e-5)
    assert str(path) in caplog.text
    assert "1 x 1 x 1" in caplog.text
    assert "1.5 x 1.5 x 10" in caplog.text


def test_pixdim_counts_without_a_qform(tmp_path: Path) -> None:
    shifted = np.diag([-1.0, -1, 1, 1])
    shifted[:3, 3] = 5
    volume = read_volume(two(tmp_path / "a.nii", shifted, None))
    assert volume.spacing_mm == pytest.approx((1.5, 1.5, 10))
    np.testing.assert_allclose(np.diag(volume.affine), [-1.5, -1.5, 10, 1])
    np.testing.assert_allclose(volume.affine[:3, 3], 5)


def test_the_sform_is_taken_where_pixdim_is_1(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        volume = read_volume(two(tmp_path / "a.nii", TURNED, np.eye(4)))
    np.testing.assert_array_equal(volume.affine, TURNED)
    assert "a.nii" in caplog.text


def test_two_sizes_of_which_neither_is_1_are_refused(tmp_path: Path) -> None:
    path = two(tmp_path / "a.nii", np.diag([2.0, 2, 2, 1]), REAL)
    with pytest.raises(SegprefError, match=r"a\.nii states two.* 2 x 2 x 2 .* 1\.5 x 1\.5 x 10 "):
        read_volume(path)


def test_a_turned_qform_beats_a_plain_sform_and_two_turned_ones_are_refused(tmp_path: Path) -> None:
    volume = read_volume(two(tmp_path / "a.nii", REAL, TURNED))
    np.testing.assert_allclose(volume.affine, TURNED, atol=1e-5)
    volume = read_volume(two(tmp_path / "b.nii", TURNED, REAL))
    np.testing.assert_allclose(volume.affine, TURNED, atol=1e-5)
    mirrored = np.diag([-1.5, -1.5, 10, 1])
    mirrored[:3, 3] = 20
    with pytest.raises(SegprefError, match="two geometries, axes that point to"):
        read_volume(two(tmp_path / "c.nii", mirrored, TURNED))


def test_headers_that_agree_are_taken_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        volume = read_volume(two(tmp_path / "a.nii", TURNED, TURNED))
        rounded = TURNED.copy()
        rounded[2, 2] = 10.0004
        read_volume(two(tmp_path / "b.nii", rounded, TURNED))
    np.testing.assert_array_equal(volume.affine, TURNED)
    assert not caplog.text


def test_a_label_saved_again_with_one_of_the_statements_fits_its_image(tmp_path: Path) -> None:
    image = read_volume(two(tmp_path / "image.nii.gz", np.eye(4), REAL))
    label = nifti(tmp_path / "label.nii.gz", grey(SHAPE), REAL)
    check_grid(image, tmp_path / "image.nii.gz", read_volume(label), label)


def test_axes_of_a_header_without_codes_are_not_known(tmp_path: Path) -> None:
    header: Any = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    header.set_zooms((1.5, 1.5, 8))
    nib.save(nib.Nifti1Image(grey(SHAPE), None, header), tmp_path / "a.nii")
    image: Any = nib.load(tmp_path / "a.nii")
    assert not nifti_geometry(tmp_path / "a.nii", image, 3).oriented
    found = Case(
        id="a", patient="a", volume="a", image=np.zeros((1, *SHAPE), np.float32),
        spacing_mm=(1.5, 1.5, 8), affine=image.affine, oriented=False,
    )  # fmt: skip
    assert orientation_of(found) is None


def volume_of(affine: np.ndarray, spacing: tuple[float, ...] | None = (1.5, 1.5, 8)) -> VolumeFile:
    return VolumeFile(grey((1, *SHAPE)), affine, spacing, spacing is not None)


@pytest.mark.parametrize(
    ("mask", "image", "remedy"),
    [
        (volume_of(np.eye(4), None), volume_of(MM), r"mask\.nii has lost .* header of image"),
        (volume_of(MM), volume_of(np.eye(4), None), r"image\.nii has lost .* header of mask"),
        (volume_of(np.eye(4), (1, 1, 1)), volume_of(MM), r"mask\.nii has lost"),
        (volume_of(TURNED), volume_of(REAL), "axes point to .* turn one as the other"),
        (volume_of(REAL + np.diag([0, 0, 1, 0])), volume_of(REAL), "resample"),
    ],
)  # fmt: skip
def test_masks_elsewhere_get_the_right_remedy(
    mask: VolumeFile, image: VolumeFile, remedy: str
) -> None:
    with pytest.raises(SegprefError, match=remedy):
        check_grid(image, Path("image.nii"), mask, Path("mask.nii"))


def test_the_warning_is_repeated_where_the_image_is_read_from_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "images").mkdir()
    path = two(tmp_path / "images/acdc.nii.gz", np.eye(4), TURNED)
    space = LabelSpace("multi-class", ("background", "a"))
    for _ in range(3):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            prepare(
                images_for(tmp_path / "images", ("image",)), Preparation(dims=3),
                Cache(tmp_path / "cache"), space,
            )  # fmt: skip
        assert caplog.text.count(f"{path} states two geometries") == 1
