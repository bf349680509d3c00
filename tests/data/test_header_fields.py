"""Single fields of a NIfTI header that are zero, negative, no number or none of the format's."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from written import grey, labels

from segpref.data import Folders, read_volume
from segpref.types import SegprefError

SHAPE = (4, 5, 6)
VOXELS = grey(SHAPE)
SFORM = np.diag([1.5, 2, 3, 1])
NAN, INF = float("nan"), float("inf")

NONE, BY_S, BY_Q, BOTH = (0, 0), (0, 1), (1, 0), (1, 1)
"""Codes of qform and sform."""


def made(
    path: Path,
    pixdim: tuple[float, ...] = (1.5, 2, 3),
    codes: tuple[int, int] = BY_S,
    unit: int = 2,
    change: Callable[[bytearray], None] | None = None,
    big: bool = False,
    voxels: np.ndarray = VOXELS,
) -> Path:
    """A file with these bytes in its header, which no library would write."""
    header = nib.Nifti1Header(endianness=">" if big else "<")
    raw = bytearray(nib.Nifti1Image(voxels, SFORM, header).to_bytes())
    order = ">" if big else "<"
    raw[80:92] = np.array(pixdim, f"{order}f4").tobytes()
    raw[123] = unit
    raw[252:256] = np.array(codes, f"{order}i2").tobytes()
    if change is not None:
        change(raw)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return path


def float_at(place: int, value: float) -> Callable[[bytearray], None]:
    def change(raw: bytearray) -> None:
        raw[place : place + 4] = np.float32(value).tobytes()

    return change


@pytest.mark.parametrize("bad", [0.0, NAN, INF])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("codes", [NONE, BY_Q])
def test_a_size_that_is_none_is_refused_where_it_is_all_there_is(
    tmp_path: Path, bad: float, name: str, codes: tuple[int, int]
) -> None:
    path = made(tmp_path / name, (1.5, 2, bad), codes)
    with pytest.raises(
        SegprefError, match=rf"1\.5 x 2 x {bad:g} in its pixdim.*true sizes"
    ) as said:
        read_volume(path)
    assert str(path) in str(said.value)


@pytest.mark.parametrize("bad", [(0, 0, 0), (1.5, 2, 0), (NAN, 2, 3), (1.5, INF, 3)])
@pytest.mark.parametrize("codes", [BY_S, BOTH])
@pytest.mark.parametrize("big", [False, True])
def test_the_sform_stands_where_pixdim_holds_no_sizes(
    tmp_path: Path,
    bad: tuple[float, ...],
    codes: tuple[int, int],
    big: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "segpref"):
        volume = read_volume(made(tmp_path / "a.nii", bad, codes, big=big))
    assert volume.spacing_mm == (1.5, 2, 3)
    np.testing.assert_array_equal(volume.affine, SFORM)
    np.testing.assert_array_equal(volume.array[0], VOXELS)
    assert not [one for one in caplog.records if one.name.startswith("segpref")]


@pytest.mark.parametrize("unit", [0, 2])
def test_sizes_that_are_all_zero_are_unknown_and_not_1_mm(tmp_path: Path, unit: int) -> None:
    volume = read_volume(made(tmp_path / "a.nii", (0, 0, 0), NONE, unit))
    assert (volume.spacing_mm, volume.oriented) == (None, False)
    with pytest.raises(SegprefError, match="0 x 0 x 0"):
        read_volume(made(tmp_path / "b.nii", (0, 0, 0), BY_Q, unit))


@pytest.mark.parametrize("codes", [NONE, BY_S, BY_Q, BOTH])
def test_a_negative_size_is_its_amount(tmp_path: Path, codes: tuple[int, int]) -> None:
    volume = read_volume(made(tmp_path / "a.nii", (-1.5, 2, 3), codes))
    assert volume.spacing_mm == pytest.approx((1.5, 2, 3))


@pytest.mark.parametrize(("unit", "factor"), [(0, 1.0), (2, 1.0), (3, 1e-3), (2 | 8, 1.0)])
def test_sizes_are_in_the_unit_that_is_stated(tmp_path: Path, unit: int, factor: float) -> None:
    for place in ("images", "labels"):
        voxels = VOXELS if place == "images" else labels(SHAPE, 2)
        made(tmp_path / place / "a.nii", unit=unit, voxels=voxels)
    reader = Folders(tmp_path)
    case = reader.read(reader.sources()[0])
    assert case.spacing_mm == pytest.approx((1.5 * factor, 2 * factor, 3 * factor))
    np.testing.assert_array_equal(np.asarray(case.label)[0], labels(SHAPE, 2))


def test_voxels_of_metres_are_refused_and_of_thousandths_are_millimetres(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"a\.nii states voxels of 1500 x .*, in metres"):
        read_volume(made(tmp_path / "a.nii", unit=1))

    def small(raw: bytearray) -> None:
        for place in (280, 300, 320):
            raw[place : place + 4] = np.float32(5e-4).tobytes()

    path = made(tmp_path / "b.nii", (5e-4,) * 3, unit=1, change=small)
    assert read_volume(path).spacing_mm == pytest.approx((0.5,) * 3)


@pytest.mark.parametrize("unit", [4, 7, 255])
def test_a_unit_that_is_none_is_refused(tmp_path: Path, unit: int) -> None:
    with pytest.raises(SegprefError, match=r"a\.nii states a unit of length .* xyzt_units"):
        read_volume(made(tmp_path / "a.nii", unit=unit))


@pytest.mark.parametrize("offset", [0.0, 348.0, -4.0, NAN])
def test_voxels_do_not_begin_within_the_header(tmp_path: Path, offset: float) -> None:
    path = made(tmp_path / "a.nii", change=float_at(108, offset))
    with pytest.raises(SegprefError, match=r"a\.nii .*(in its header|cut off, damaged)"):
        read_volume(path)


@pytest.mark.parametrize("slope", [0.0, NAN, INF])
def test_a_slope_that_is_none_leaves_values_as_they_are(tmp_path: Path, slope: float) -> None:
    volume = read_volume(made(tmp_path / "a.nii", change=float_at(112, slope)))
    np.testing.assert_array_equal(volume.array[0], VOXELS)


def test_an_intercept_that_is_no_number_is_refused(tmp_path: Path) -> None:
    def change(raw: bytearray) -> None:
        raw[112:120] = np.array([1, NAN], np.float32).tobytes()

    with pytest.raises(SegprefError, match=r"a\.nii .*intercept"):
        read_volume(made(tmp_path / "a.nii", change=change))


@pytest.mark.parametrize("big", [False, True])
def test_what_extends_a_header_is_passed_over(tmp_path: Path, big: bool) -> None:
    header = nib.Nifti1Header(endianness=">" if big else "<")
    image = nib.Nifti1Image(VOXELS, SFORM, header)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array[0], VOXELS)
    assert volume.spacing_mm == (1.5, 2, 3)
