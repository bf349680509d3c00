"""Where the crop of a diffusion model lies, and what comes back of it on the image's voxels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segpref.data import Preparation, turned
from segpref.inference import ImageSampler, summarise
from segpref.policies import ModelCard, NetworkSpec
from segpref.policies.diffusion import Process, Sampler
from segpref.types import Case, LabelSpace, SegprefError

pytest.importorskip("diffusers")
SPACE = LabelSpace("multi-label", ("bright",))


class Echo:
    """Every sample is what is bright in the image."""

    label_space, latent, device = SPACE, 0, torch.device("cpu")
    process = Process(timesteps=10, prediction="x0")
    takes_text, needs_text = True, False

    def __init__(self, images: Tensor | None = None) -> None:
        self.images = images

    def encode(self, images: Tensor, texts: Any) -> Any:
        return Echo(images)

    def rows(self, places: Tensor) -> Any:
        assert self.images is not None
        return Echo(self.images[places])

    def denoise(self, context: Any, noisy: Tensor, time: Tensor, unit: Tensor) -> Tensor:
        return context.images.clip(-1, 1)


def image_sampler(**preparation: Any) -> ImageSampler:
    card = ModelCard(NetworkSpec("none"), SPACE, Preparation(normalise="none", **preparation))
    return ImageSampler(Echo(), card, Sampler(steps=2))


def case(*shape: int, **parts: Any) -> Case:
    image = np.random.default_rng(0).choice([-1.0, 1.0], (1, *shape)).astype(np.float32)
    return Case(id="a", patient="a", volume="a", image=image, affine=np.eye(4), **parts)


@pytest.mark.parametrize(
    ("crop", "centre", "x", "y"),
    [
        ((8, 8), None, slice(6, 14), slice(11, 19)),
        ((8, 8), (10, 15), slice(6, 14), slice(11, 19)),
        ((8, 8), (5, 25), slice(1, 9), slice(21, 29)),
        ((5, 8), (7.4, 9.6), slice(5, 10), slice(6, 14)),
        # At the edges the crop stays within the image, and an axis that it covers stays as it was.
        ((8, 8), (0, 29), slice(0, 8), slice(22, 30)),
        ((24, 8), (3, 15), slice(0, 20), slice(11, 19)),
    ],
)
@pytest.mark.parametrize("slices", [None, 3])
def test_masks_are_those_of_the_crop(
    crop: Any, centre: Any, x: slice, y: slice, slices: int | None
) -> None:
    whole = case(20, 30) if slices is None else case(20, 30, slices)
    expected = np.zeros(whole.image.shape[1:], bool)
    expected[x, y] = True
    draws = image_sampler(crop=crop)
    np.testing.assert_array_equal(draws.seen(whole, centre), expected)
    masks = draws(whole, 2, centre=centre)
    np.testing.assert_array_equal(masks[:, 0], [expected & (whole.image[0] > 0)] * 2)


@pytest.mark.parametrize("size", [None, (24, 24)])
@pytest.mark.parametrize("centre", [(14, 12), (31, 27)])
def test_the_crop_lies_about_the_centre_of_resampled_images(centre: Any, size: Any) -> None:
    whole = case(48, 40, spacing_mm=(0.5, 1.0))
    whole.image[:] = -1
    x, y = centre
    whole.image[0, x - 4 : x + 5, y - 4 : y + 5] = 1
    draws = image_sampler(spacing_mm=(1.0, 0.5), crop=(12, 36), size=size)
    seen = draws.seen(whole, centre)
    # 12 voxels of 1 mm along x, 36 of 0.5 mm along y; of voxels that the edge goes through, corners
    # above all, less than half may lie within.
    assert seen.any(axis=1).sum() == 24
    assert seen.any(axis=0).sum() in (17, 18)
    assert seen.sum() == pytest.approx(24 * seen.any(axis=0).sum(), abs=4)
    places = np.argwhere(seen).mean(axis=0)
    assert np.abs(places - centre).max() <= 1
    (mask,) = draws(whole, 1, centre=centre)[0]
    bright = whole.image[0] > 0
    assert (mask & bright).sum() / (mask | bright).sum() > 0.8
    assert not mask[~seen].any()
    assert np.abs(np.argwhere(mask).mean(axis=0) - centre).max() < 0.6


def test_nothing_is_known_of_what_was_not_seen() -> None:
    masks = np.array([[[1, 1, 0, 0]], [[1, 0, 0, 0]]], np.uint8)
    found = summarise(masks, np.array([True, True, True, False]))
    np.testing.assert_array_equal(found.mean, [[1, 0.5, 0, np.nan]])
    np.testing.assert_array_equal(found.uncertainty, [[0, 1, 0, np.nan]])
    assert found.majority.tolist() == [[1, 0, 0, 0]]


def test_a_centre_that_cannot_be() -> None:
    with pytest.raises(SegprefError, match="20 x 30 pixels, which do not include"):
        image_sampler(crop=(8, 8))(case(20, 30), 1, centre=(20, 3))
    with pytest.raises(SegprefError, match="leave --centre out"):
        image_sampler(size=(16, 16))(case(20, 30), 1, centre=(3, 3))
    with pytest.raises(SegprefError, match="no crop to move"):
        Preparation().around((3, 3))
    with pytest.raises(SegprefError, match="needs 2 numbers in 2D"):
        Preparation(crop=(8, 8)).around((3, 3, 3))
    # What is moved twice lies where it was moved last.
    moved = Preparation(crop=(8, 8)).around((3, 3)).around((9, 9))
    assert moved == Preparation(crop=(8, 8)).around((9, 9)) != Preparation(crop=(8, 8))
    assert moved.as_key() != Preparation(crop=(8, 8)).as_key()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "IAR"])
def test_volumes_are_turned_as_in_training(codes: str) -> None:
    rng = np.random.default_rng(0)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    whole = Case(
        id="a", patient="a", volume="a", spacing_mm=(1.0, 2.0, 3.0), affine=affine,
        image=rng.choice([-1.0, 1.0], (1, 6, 8, 5)).astype(np.float32),
    )  # fmt: skip
    drawer = image_sampler(crop=(4, 4))
    known = replace(drawer, card=replace(drawer.card, orientation="RAS"))
    here, there = known(whole, 1), known(turned(whole, codes), 1)
    assert here.any()
    as_image = replace(whole, image=here[0].astype(np.float32))
    np.testing.assert_array_equal(turned(as_image, codes).image, there[0])
    if codes != "RAS":
        with pytest.raises(SegprefError, match="leave --centre out"):
            known(turned(whole, codes), 1, centre=(3, 3))
