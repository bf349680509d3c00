"""A dense CRF against loops over all pairs of pixels, and on a blurred map."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segpref.prompts import DenseCRF
from segpref.types import SegprefError


def brute_force(crf: DenseCRF, image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Mean field with one loop per pair of pixels, from the formulas alone."""
    _, height, width = image.shape
    places = [(r, c) for r in range(height) for c in range(width)]
    side = max(height, width)

    def pair(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
        apart = ((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) / side**2
        unlike = sum((image[k][one] - image[k][other]) ** 2 for k in range(len(image)))
        alike = math.exp(
            -apart / (2 * crf.appearance_sigma**2) - unlike / (2 * crf.intensity_sigma**2)
        )
        return alike, math.exp(-apart / (2 * crf.smoothness_sigma**2))

    sums = {p: [sum(pair(p, o)[k] for o in places if o != p) for k in range(2)] for p in places}
    odds = {p: math.log(probability[p] / (1 - probability[p])) for p in places}
    q = {p: 1 / (1 + math.exp(-odds[p])) for p in places}
    for _ in range(crf.steps):
        fresh = {}
        for p in places:
            z = odds[p]
            for o in places:
                if o == p:
                    continue
                alike, near = pair(p, o)
                z += (
                    crf.appearance_weight
                    * alike
                    / math.sqrt(sums[p][0] * sums[o][0])
                    * (2 * q[o] - 1)
                )
                z += (
                    crf.smoothness_weight
                    * near
                    / math.sqrt(sums[p][1] * sums[o][1])
                    * (2 * q[o] - 1)
                )
            fresh[p] = 1 / (1 + math.exp(-z))
        q = fresh
    return np.array([q[p] for p in places]).reshape(height, width)


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_field_against_brute_force(channels: int) -> None:
    rng = np.random.default_rng(channels)
    image = rng.random((channels, 6, 5))
    image.flat[0], image.flat[-1] = 0, 1  # so that scaling to 0..1 changes nothing
    probability = rng.uniform(0.05, 0.95, (6, 5))
    crf = DenseCRF(steps=3, smoothness_sigma=0.3)
    found = crf(torch.from_numpy(image), torch.from_numpy(probability))
    np.testing.assert_allclose(found.numpy(), brute_force(crf, image, probability), atol=1e-5)


def test_a_crf_moves_a_blurred_map_to_the_edges_of_its_image() -> None:
    rows, columns = np.mgrid[:48, :40]
    disc = (rows - 20) ** 2 + (columns - 22) ** 2 < 81
    rng = np.random.default_rng(0)
    image = torch.from_numpy(np.where(disc, 0.2, 0.8) + 0.03 * rng.standard_normal(disc.shape))
    shifted = np.exp(-((rows - 22) ** 2 + (columns - 20) ** 2) / (2 * 9.0**2))
    before = torch.from_numpy(shifted)
    after = DenseCRF()(image[None].float(), before.float())
    assert after.shape == disc.shape

    def iou(mask: np.ndarray) -> float:
        return float((mask & disc).sum() / (mask | disc).sum())

    assert iou(before.numpy() > 0.5) < 0.75
    assert iou(after.numpy() > 0.5) > 0.95
    with pytest.raises(SegprefError, match="size must be at least 2 and at most 96"):
        DenseCRF(size=500)
