from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segpref.data import Preparation
from segpref.types import IGNORE, Case, SegprefError


def case(image: np.ndarray, label: np.ndarray | None = None, **more: Any) -> Case:
    return Case(
        id="a", patient="a", volume="a", image=image.astype(np.float32), label=label, **more
    )


def back(preparation: Preparation, one: Case, outside: float = -9.0) -> np.ndarray:
    """The prepared image taken for logits and brought back to the case's voxels."""
    items = torch.from_numpy(preparation.apply(one).images)
    channels = items.shape[1]
    return preparation.restore(items, one, torch.full((channels,), outside)).numpy()


def test_without_settings_nothing_changes() -> None:
    image = np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32)
    plain = Preparation(normalise="none")
    prepared = plain.apply(case(image))
    np.testing.assert_array_equal(prepared.images, image[None])
    assert prepared.labels is None
    assert prepared.spacing_mm is None
    np.testing.assert_array_equal(back(plain, case(image)), image)


sides = st.integers(1, 9)


@given(shape=st.tuples(sides, sides), crop=st.tuples(sides, sides), seed=st.integers(0, 99))
def test_crop_and_padding_round_trip_in_2d(
    shape: tuple[int, int], crop: tuple[int, int], seed: int
) -> None:
    check_crop(shape, crop, seed)


@given(shape=st.tuples(sides, sides, sides), crop=st.tuples(sides, sides, sides))
def test_crop_and_padding_round_trip_in_3d(shape: tuple[int, ...], crop: tuple[int, ...]) -> None:
    check_crop(shape, crop, 0)


def check_crop(shape: tuple[int, ...], crop: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.uniform(1, 2, (2, *shape)).astype(np.float32)
    label = values(image[:1])
    preparation = Preparation(dims=len(shape), crop=crop, normalise="none")  # type: ignore[arg-type]
    one = case(image, label)
    prepared = preparation.apply(one)
    assert prepared.images.shape == (1, 2, *crop)
    assert prepared.labels is not None
    restored = back(preparation, one)
    kept = restored[0] != -9
    # What lies in the crop comes back as it was, the rest as what is said of the outside.
    assert kept.sum() == np.prod(np.minimum(shape, crop))
    np.testing.assert_array_equal(restored[:, kept], image[:, kept])
    assert (restored[:, ~kept] == -9).all()
    # Image and label are cut alike, and padding is the lowest intensity and background.
    marked = prepared.labels[0] > 0
    np.testing.assert_array_equal(
        prepared.labels[0][marked], values(prepared.images[0, :1])[marked]
    )
    assert marked.sum() == (label[0][kept] > 0).sum()
    for channel, original in zip(prepared.images[0], image, strict=True):
        assert channel.min() >= original.min()


def values(image: np.ndarray) -> np.ndarray:
    return ((image - 1) * 4).astype(np.uint8)


@pytest.mark.parametrize(("n", "m"), [(5, 3), (6, 3), (5, 2), (6, 4)])
def test_crops_are_central(n: int, m: int) -> None:
    image = np.arange(n, dtype=np.float32)[None, :, None].repeat(2, 2)
    got = Preparation(crop=(m, 2), normalise="none").apply(case(image)).images[0, 0, :, 0]
    assert got[0] in ((n - m) // 2, (n - m + 1) // 2)
    np.testing.assert_array_equal(np.diff(got), 1)


def test_padding_is_as_wide_on_both_sides() -> None:
    image = np.array([[[2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]])
    label = np.ones((1, 3, 2), np.uint8)
    got = Preparation(crop=(6, 4), normalise="none").apply(case(image, label))
    assert got.labels is not None
    expected = np.full((6, 4), 2.0)
    expected[1:4, 1:3] = image[0]
    np.testing.assert_array_equal(got.images[0, 0], expected)
    np.testing.assert_array_equal(got.labels[0, 0], np.pad(label[0], ((1, 2), (1, 1))))


@pytest.mark.parametrize("size", [(24, 20), (31, 17), (48, 40)])
def test_a_linear_ramp_survives_resizing(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[:24, :20]
    image = (rows + 2.0 * columns)[None]
    preparation = Preparation(size=size, normalise="none")
    assert preparation.apply(case(image)).images.shape == (1, 1, *size)
    inner = (slice(None), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(back(preparation, case(image))[inner], image[inner], atol=1e-3)


def test_spacing_is_followed_through_every_step() -> None:
    image = np.zeros((1, 40, 30), np.float32)
    one = case(image, spacing_mm=(1.5, 2.0))
    assert Preparation().apply(one).spacing_mm == (1.5, 2.0)
    resampled = Preparation(spacing_mm=(3.0, 1.0)).apply(one)
    assert resampled.images.shape[2:] == (20, 60)
    assert resampled.spacing_mm == pytest.approx((3.0, 1.0))
    # Rounding to whole voxels shows in the spacing: 40 x 1.5 mm on 9 voxels.
    assert Preparation(spacing_mm=(7.0, 2.0)).apply(one).spacing_mm == pytest.approx((60 / 9, 2.0))
    cropped = Preparation(spacing_mm=(3.0, 1.0), crop=(16, 48)).apply(one)
    assert cropped.spacing_mm == pytest.approx((3.0, 1.0))
    resized = Preparation(spacing_mm=(3.0, 1.0), crop=(16, 48), size=(32, 24)).apply(one)
    assert resized.images.shape[2:] == (32, 24)
    assert resized.spacing_mm == pytest.approx((1.5, 2.0))


def test_resampling_and_back_keeps_a_blob() -> None:
    rows, columns = np.mgrid[:40, :30]
    image = np.exp(-((rows - 18) ** 2 + (columns - 14) ** 2) / 60)[None]
    one = case(image, spacing_mm=(1.5, 1.5))
    restored = back(Preparation(spacing_mm=(1.0, 1.0), crop=(56, 42), normalise="none"), one)
    assert restored.shape == image.shape
    np.testing.assert_allclose(restored[:, 4:-4, 4:-4], image[:, 4:-4, 4:-4], atol=0.03)


def test_resampling_needs_a_voxel_size() -> None:
    with pytest.raises(SegprefError, match="does not state its voxel size"):
        Preparation(spacing_mm=(1.0, 1.0)).apply(case(np.zeros((1, 4, 4))))


def test_normalisations_by_hand() -> None:
    image = np.array([[[2.0, 4.0], [6.0, 10.0]], [[0.0, 0.0], [0.0, 8.0]]])
    one = case(image)
    np.testing.assert_allclose(
        Preparation(normalise="min-max").apply(one).images[0],
        [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 1]]],
        atol=1e-7,
    )
    z = Preparation(normalise="z-score").apply(one).images[0]
    np.testing.assert_allclose(z.mean(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=(1, 2)), 1, rtol=1e-6)
    windowed = Preparation(window=(0.0, 4.0), normalise="none").apply(one).images[0]
    np.testing.assert_array_equal(windowed[0], [[2, 4], [4, 4]])
    # The ends of the window, whatever the image holds; the second channel's zeros are below it.
    ranged = Preparation(window=(1.0, 5.0), normalise="window").apply(one).images[0]
    np.testing.assert_allclose(ranged, [[[0.25, 0.75], [1, 1]], [[0, 0], [0, 1]]])
    # Of what is not zero: one voxel alone has no spread.
    known = Preparation(normalise="z-score-nonzero").apply(one).images[0]
    np.testing.assert_allclose(known[0], z[0], rtol=1e-6)
    np.testing.assert_array_equal(known[1], 0)
    some = case(np.array([[[0.0, 4.0], [6.0, 0.0]]]))
    known = Preparation(normalise="z-score-nonzero").apply(some).images[0]
    np.testing.assert_allclose(known[0], [[0, -1], [1, 0]])
    np.testing.assert_array_equal(image[0], [[2, 4], [6, 10]])


def test_a_window_has_two_ends() -> None:
    with pytest.raises(SegprefError, match="from low to high"):
        Preparation(window=(4.0, 4.0))
    with pytest.raises(SegprefError, match="give window"):
        Preparation(normalise="window")


def test_percentiles_cut_off_what_is_extreme() -> None:
    image = np.linspace(0, 1, 10_000).reshape(1, 100, 100)
    image[0, 0, 0], image[0, -1, -1] = -500, 500
    got = Preparation(normalise="percentile").apply(case(image)).images[0, 0]
    assert got.min() == pytest.approx(0, abs=1e-6)
    assert got.max() == pytest.approx(1)
    assert got[50, 50] == pytest.approx((image[0, 50, 50] - 0.005) / 0.99, abs=1e-3)


@pytest.mark.parametrize("normalise", ["min-max", "z-score", "z-score-nonzero", "percentile"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1000.0, 3e4])
def test_a_constant_image_becomes_zeros(normalise: Any, value: float) -> None:
    image = np.full((1, 33, 33), value)
    got = Preparation(normalise=normalise).apply(case(image)).images
    np.testing.assert_allclose(got, 0, atol=1e-2 if abs(value) > 100 else 1e-6)
    assert np.ptp(got) == 0


def test_a_volume_is_normalised_as_a_whole_and_cut_into_slices() -> None:
    volume = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    label = (volume > 11).astype(np.uint8)
    one = case(volume, label, spacing_mm=(1.0, 2.0, 8.0))
    prepared = Preparation().apply(one)
    assert prepared.images.shape == (4, 1, 2, 3)
    assert prepared.labels is not None
    assert prepared.spacing_mm == (1.0, 2.0)
    for number in range(4):
        np.testing.assert_allclose(prepared.images[number], volume[..., number] / 23, rtol=1e-6)
        np.testing.assert_array_equal(prepared.labels[number], label[..., number])
    np.testing.assert_allclose(back(Preparation(), one), volume / 23, rtol=1e-6)


def test_labels_keep_their_values() -> None:
    rng = np.random.default_rng(1)
    label = rng.choice([0, 1, 3, IGNORE], (2, 20, 20)).astype(np.uint8)
    one = case(np.zeros((1, 20, 20)), label, spacing_mm=(1.0, 1.0))
    for preparation in (
        Preparation(size=(13, 27)),
        Preparation(spacing_mm=(0.7, 1.9)),
        Preparation(crop=(30, 9), size=(15, 18)),
    ):
        labels = preparation.apply(one).labels
        assert labels is not None
        assert labels.dtype == np.uint8
        assert set(np.unique(labels)) == {0, 1, 3, IGNORE}
    doubled = Preparation(size=(40, 40)).apply(one).labels
    assert doubled is not None
    np.testing.assert_array_equal(doubled[0], label.repeat(2, 1).repeat(2, 2))


def test_dimensions_must_fit() -> None:
    with pytest.raises(SegprefError, match="2 spatial axes but the preparation is for 3D"):
        Preparation(dims=3).apply(case(np.zeros((1, 4, 4))))
    with pytest.raises(SegprefError, match="crop needs 2 positive numbers"):
        Preparation(crop=(4, 4, 4))
    with pytest.raises(SegprefError, match="size needs 2 positive numbers"):
        Preparation(size=(4, 0))


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(),
        Preparation(3, (1.0, 1.0, 2.5), (8, 8, 8), (4, 4, 4), "z-score", (-100.0, 300.0)),
    ],
)
def test_the_key_gives_the_preparation_back(preparation: Preparation) -> None:
    assert Preparation.from_key(preparation.as_key()) == preparation
