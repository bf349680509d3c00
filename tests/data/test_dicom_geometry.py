"""Where DICOM series lie: as SimpleITK's reader of series says, in any orientation."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import AXIAL, CORONAL, SAGITTAL, enhanced, stack, values
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from segpref.data import Images, read_volume
from segpref.types import SegprefError


def by_itk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values ``[x, y, z]`` and affine in RAS."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1.0, -1, 1, 1]) @ affine


def check(orientation, size, origin, count, rescale) -> None:
    volume = values((count, 4, 6))
    slope, intercept = rescale
    with tempfile.TemporaryDirectory() as place:
        folder = stack(
            Path(place), volume, orientation, size[:2], size[2], origin,
            RescaleSlope=slope, RescaleIntercept=intercept,
        )  # fmt: skip
        ours, (theirs, affine) = read_volume(folder), by_itk(folder)
    assert np.array_equal(ours.array[0], theirs)
    assert np.array_equal(ours.array[0], volume.transpose(2, 1, 0) * float(slope) + intercept)
    assert ours.affine is not None
    assert np.allclose(ours.affine, affine, atol=1e-3, rtol=1e-5)
    assert np.allclose(ours.spacing_mm, (size[1], size[0], size[2]), rtol=1e-4)


@pytest.mark.parametrize(
    "orientation", [AXIAL, CORONAL, SAGITTAL, (0.6, 0.8, 0, 0, 0, -1), (0, 0.8, 0.6, -1, 0, 0)]
)
def test_values_and_geometry_are_those_of_simpleitk(orientation) -> None:
    check(orientation, (0.5, 0.75, 2.5), (-10, 20, 5), 4, (2, -1000))


sizes = st.floats(0.2, 5).map(lambda one: round(one, 3))


@pytest.mark.slow
@given(
    st.sampled_from([AXIAL, CORONAL, SAGITTAL, None]),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(sizes, sizes, sizes),
    st.tuples(*[st.integers(-200, 200)] * 3),
    st.integers(2, 5),
    st.sampled_from([(1, 0), (2, -1000), (0.5, 3)]),
)
def test_so_are_those_of_any_series(plain, turns, size, origin, count, rescale) -> None:
    oblique = Rotation.from_euler("xyz", turns, degrees=True).as_matrix()[:, :2].T.reshape(-1)
    check(oblique if plain is None else plain, size, origin, count, rescale)


def test_frames_of_an_enhanced_file_are_slices_by_their_places(tmp_path: Path) -> None:
    volume = values((3, 4, 6))
    path = enhanced(tmp_path / "a", volume, (4.0, 0.0, 2.0), slopes=(1, 2, 3))
    read = read_volume(path)
    scaled = volume * np.array([1, 2, 3])[:, None, None] - 1000
    assert np.array_equal(read.array[0], scaled[[1, 2, 0]].transpose(2, 1, 0))
    assert read.spacing_mm == pytest.approx((0.75, 0.5, 2.0))
    assert read.affine is not None
    assert np.allclose(read.affine[:3, 3], (-1, -2, 0))
    (source,) = Images(tmp_path).sources()
    assert source.series is not None
    assert (source.series.slices, source.series.orientation) == (3, "axial")
    with pytest.raises(SegprefError, match=r"two frames at one position .*: export each"):
        read_volume(enhanced(tmp_path / "b", volume, (4.0, 0.0, 0.0)))
