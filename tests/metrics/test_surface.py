"""Surface measures against MONAI, DeepMind, and distances between all surface voxels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from segpref.metrics import (
    average_surface_distance,
    element_distances,
    hausdorff,
    hausdorff_95,
    summarise_distances,
    surface_dice,
    surface_distances,
    surface_scores,
)
from segpref.types import IGNORE, LabelSpace, SegprefError

GRIDS = pytest.mark.parametrize(
    ("shape", "spacing"),
    [((30, 24), None), ((30, 24), (1.5, 0.7)), ((12, 14, 9), (1.0, 0.6, 3.0))],
    ids=["2d-voxel", "2d-mm", "3d-mm"],
)


def blobs(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A ragged mask with several components, some at the border of the image."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return noise > np.quantile(noise, 0.7)


@GRIDS
@pytest.mark.parametrize("seed", range(4))
def test_measures_are_monais(shape, spacing, seed):
    prediction, truth = blobs(seed, shape), blobs(seed + 100, shape)
    found = surface_distances(prediction, truth, spacing)
    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    settings = {"include_background": True, "spacing": spacing}
    for value, expected in (
        (hausdorff_95(found), compute_hausdorff_distance(*pair, percentile=95, **settings)),
        (hausdorff(found), compute_hausdorff_distance(*pair, **settings)),
        (
            average_surface_distance(found),
            compute_average_surface_distance(*pair, symmetric=True, **settings),
        ),
        (surface_dice(found, 1.2), compute_surface_dice(*pair, [1.2], **settings)),
    ):
        assert value == pytest.approx(expected.item(), rel=1e-5)


DEEPMIND = json.loads(Path(__file__).with_name("surface_distance.json").read_text())["masks"]


@pytest.mark.parametrize("said", DEEPMIND, ids=lambda said: f"{said['spacing']}")
def test_measures_by_area_are_deepminds(said):
    """Against values that ``record_surface_distance.py`` took from surface-distance."""
    masks = np.zeros((2, *said["shape"]), bool)
    masks[0].flat[said["prediction"]], masks[1].flat[said["truth"]] = True, True
    found = element_distances(*masks, said["spacing"])
    areas = [found.true_area.sum(), found.predicted_area.sum()]
    assert areas == pytest.approx(said["areas"], rel=1e-5)
    assert average_surface_distance(found) == pytest.approx(
        np.average(said["average"], weights=said["areas"]), rel=1e-5
    )
    assert hausdorff_95(found) == pytest.approx(said["hausdorff_95"], rel=1e-5)
    assert hausdorff(found) == pytest.approx(said["hausdorff"], rel=1e-5)
    for tolerance, share in said["surface_dice"].items():
        assert surface_dice(found, float(tolerance)) == pytest.approx(share, rel=1e-5)


def test_a_plane_has_its_own_area():
    """A plate of 6 x 8 x 2 voxels of 2 x 3 x 0.5 mm: less than its box, for corners are cut."""
    plate = np.zeros((16, 18, 9), bool)
    plate[5:11, 5:13, 4:6] = True
    area = element_distances(plate, plate, (2.0, 3.0, 0.5)).true_area.sum()
    faces, sides = 2 * 12.0 * 24.0, 2 * (12.0 + 24.0) * 1.0
    assert 2 * (5 * 2.0) * (7 * 3.0) < area < faces + sides
    assert surface_dice(element_distances(plate, plate), 0) == 1


@GRIDS
def test_distances_are_those_between_all_surface_voxels(shape, spacing):
    masks = [blobs(1, shape), blobs(2, shape)]
    places = []
    for mask in masks:
        padded = np.pad(mask, 1)
        inside = np.ones_like(mask)
        for axis in range(mask.ndim):
            for step in (-1, 1):
                core = (slice(1, -1),) * mask.ndim
                inside &= np.roll(padded, step, axis)[core]
        places.append(np.argwhere(mask & ~inside) * np.asarray(spacing or (1,) * len(shape)))
    between = cdist(*places)
    found = surface_distances(*masks, spacing)
    np.testing.assert_allclose(found.to_truth, between.min(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.to_prediction, between.min(axis=0), rtol=1e-5)


def test_worked_example():
    """Two squares of 5 x 5, one moved by two pixels of 1.5 mm.

    Of the 16 surface pixels of either, 10 lie within one pixel of the other surface (6 on it), and
    the other 6 are two pixels away: those of the far edge and the middle of the near one.
    By length, either contour has 16 straight pieces and four corners of half a diagonal. Within one
    pixel of the other contour are the 2 x 4 straight pieces of the two sides, and of the near edge its
    two corners and the piece next to each.
    """
    space = LabelSpace("multi-class", ("background", "square"))
    truth = np.zeros((1, 20, 20), np.uint8)
    truth[0, 5:10, 5:10] = 1
    moved = np.roll(truth, 2, axis=1)
    by_length = (8 + 2 + np.sqrt(2)) / (16 + 2 * np.sqrt(2))
    in_voxels = surface_scores(moved, truth, space)
    assert {name: column.tolist() for name, column in in_voxels.items()} == {
        "assd_voxel": [1.0],
        "hd95_voxel": [2.0],
        "hd_voxel": [2.0],
        "surface_dice_1_voxel": [pytest.approx(by_length)],
    }
    in_mm = surface_scores(moved, truth, space, (1.5, 1.5), tolerance_mm=1.5)
    assert {name: column.tolist() for name, column in in_mm.items()} == {
        "assd_mm": [1.5],
        "hd95_mm": [3.0],
        "hd_mm": [3.0],
        "surface_dice_1.5_mm": [pytest.approx(by_length)],
    }
    assert surface_scores(truth, truth, space)["assd_voxel"].tolist() == [0.0]
    by_voxel = surface_distances(moved[0] == 1, truth[0] == 1)
    assert surface_dice(by_voxel, 1) == 10 / 16


def test_a_tolerance_of_whole_steps_takes_them_in_spite_of_rounding():
    one, other = np.zeros((2, 9, 9), bool)
    one[4, 2], other[4, 4] = True, True
    for size in np.arange(0.1, 3, 0.1):
        assert surface_dice(surface_distances(one, other, (1.0, size)), 2 * size) == 1
        assert surface_dice(surface_distances(one, other, (1.0, size)), 1.999 * size) == 0


def test_empty_masks():
    space = LabelSpace("multi-label", ("both", "prediction", "truth", "neither"))
    square = np.zeros((20, 20), np.uint8)
    square[5:10, 5:10] = 1
    empty = np.zeros_like(square)
    scores = surface_scores(
        np.stack([square, square, empty, empty]), np.stack([square, empty, square, empty]), space
    )
    np.testing.assert_array_equal(scores["hd95_voxel"], [0, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(scores["assd_voxel"], [0, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(scores["hd_voxel"], [0, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(scores["surface_dice_1_voxel"], [1, 0, 0, np.nan])
    summary = summarise_distances(scores["hd95_voxel"])
    assert (summary.mean, summary.missed, summary.absent) == (0.0, 2, 1)
    assert np.isnan(summarise_distances(np.array([np.inf])).mean)


def test_ignored_pixels_belong_to_neither():
    space = LabelSpace("multi-class", ("background", "square"))
    truth = np.zeros((1, 20, 20), np.uint8)
    truth[0, 5:10, 5:10] = 1
    prediction = truth.copy()
    prediction[0, 15:18, 15:18] = 1
    truth[0, 12:] = IGNORE
    assert surface_scores(prediction, truth, space)["hd95_voxel"].tolist() == [0.0]


def test_masks_on_another_grid_are_refused():
    one, other = np.ones((4, 4), bool), np.ones((4, 5), bool)
    with pytest.raises(SegprefError, match="grid"):
        surface_distances(one, other)
    with pytest.raises(SegprefError, match="voxel size"):
        surface_distances(one, one, (1.0, 1.0, 1.0))
