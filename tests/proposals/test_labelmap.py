"""Components, holes and distances against SciPy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import measure

from segpref.proposals import (
    LabelMap,
    absolute,
    bounding_box,
    fill_holes,
    grown,
    keep_components,
    relative,
)


def label_maps(values: int = 4) -> st.SearchStrategy[np.ndarray]:
    shapes = st.one_of(
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14),
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=7),
    )
    return shapes.flatmap(
        lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, values - 1))
    )


def made(labels: np.ndarray, spacing: tuple[float, ...] | None = None, values: int = 4) -> LabelMap:
    return LabelMap(labels, values, spacing or (1.0,) * labels.ndim)


def test_boxes_and_counts_of_a_small_mask() -> None:
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 2:5] = 1
    labels[4, 6] = 3
    field = made(labels)
    assert field.box == (slice(1, 5), slice(2, 7))
    assert field.boxes == {1: (slice(1, 3), slice(2, 5)), 3: (slice(4, 5), slice(6, 7))}
    assert field.counts == {1: 6, 3: 1}
    assert field.crop.tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 3, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


def test_windows_by_hand() -> None:
    shape, spacing = (6, 8), (1.0, 0.5)
    assert grown((slice(1, 5), slice(2, 6)), shape, spacing, 0.8) == (slice(0, 6), slice(0, 8))
    assert grown((slice(3, 4), slice(3, 4)), shape, spacing) == (slice(2, 5), slice(2, 5))
    window, outer = (slice(3, 4), slice(4, 7)), (slice(1, 5), slice(2, 7))
    assert relative(window, outer) == (slice(2, 3), slice(2, 5))
    assert absolute(relative(window, outer), outer) == window
    assert bounding_box(np.zeros((3, 4), np.uint8)) is None


def test_runs_end_with_the_row_and_with_the_value() -> None:
    runs = made(np.array([[1, 1, 2], [2, 0, 1]], np.uint8)).runs
    # In a frame of background: 5 wide.
    assert runs.first.tolist() == [0, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15]
    assert runs.lengths.tolist() == [5, 1, 2, 1, 1, 1, 1, 1, 1, 1, 5]
    assert runs.values.tolist() == [0, 0, 1, 2, 0, 0, 2, 0, 1, 0, 0]
    assert runs.pixels(runs.values, 4).tolist() == [15, 3, 2, 0]


@settings(max_examples=100)
@given(label_maps())
def test_runs_painted_with_their_own_values_are_the_mask(labels: np.ndarray) -> None:
    field = made(labels)
    np.testing.assert_array_equal(field.painted(field.runs.values).labels, labels)
    emptied = field.painted(np.zeros_like(field.runs.values))
    assert not emptied.labels.any()
    assert emptied.box is None


def test_an_empty_mask_has_nothing() -> None:
    field = made(np.zeros((5, 5), np.uint8), values=2)
    assert field.box is None
    assert field.counts == {}
    assert not field.holes.owners.any()
    assert len(field.components.sizes) == 1
    assert field.distances(3.0).signed.size == 0


@pytest.mark.slow
@settings(max_examples=150)
@given(label_maps())
def test_components_are_those_of_scikit_image(labels: np.ndarray) -> None:
    field = made(labels)
    found = field.components
    reference = measure.label(labels, background=0, connectivity=labels.ndim)
    assert len(found.sizes) == reference.max(initial=0) + 1
    for component in range(1, len(found.sizes)):
        where = field.painted((found.ids == component).astype(np.uint8)).labels > 0
        assert len(np.unique(reference[where])) == 1
        assert np.count_nonzero(where) == found.sizes[component]
        assert set(labels[where].tolist()) == {int(found.owners[component])}


@pytest.mark.slow
@settings(max_examples=150)
@given(label_maps(values=3))
def test_holes_are_those_of_scipy(labels: np.ndarray) -> None:
    if 1 in labels.shape:
        return
    field = made(labels)
    found = field.holes
    filled = {v: ndimage.binary_fill_holes(labels == v) for v in (1, 2) if (labels == v).any()}
    expected = np.zeros_like(labels)
    for value in sorted(filled, key=lambda v: -np.count_nonzero(filled[v])):
        expected[filled[value] & (labels == 0)] = value
    actual = field.painted(found.owners[found.ids]).labels
    sizes = {v: np.count_nonzero(filled[v]) for v in filled}
    if len(set(sizes.values())) < len(sizes):
        np.testing.assert_array_equal(actual > 0, expected > 0)
    else:
        np.testing.assert_array_equal(actual, expected)


FLAT = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14)


@settings(max_examples=300)
@given(FLAT.flatmap(lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 1))))
def test_a_flat_structure_is_solid_where_scipy_fills_nothing(labels: np.ndarray) -> None:
    for field in (made(labels, values=2), keep_components(made(labels, values=2), 1.0)):
        assert field.parts == measure.label(field.labels, connectivity=2).max(initial=0)
        if 1 in labels.shape:
            assert not field.solid  # not told
            continue
        filled = ndimage.binary_fill_holes(field.labels)
        assert field.solid == np.array_equal(filled, field.labels)
        np.testing.assert_array_equal(fill_holes(field).labels > 0, filled)


def test_a_diamond_of_four_pixels_has_a_hole() -> None:
    labels = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)
    assert not made(labels, values=2).solid
    labels[1, 1] = 1
    assert made(labels, values=2).solid


@pytest.mark.slow
@settings(max_examples=200)
@given(label_maps(), st.data())
def test_distances_are_those_of_scipy(labels: np.ndarray, data: st.DataObject) -> None:
    sides = st.sampled_from([0.5, 1.0, 1.5, 3.0])
    spacing = data.draw(st.tuples(*[sides] * labels.ndim))
    reach = data.draw(st.sampled_from([0.5, 1.0, 2.0, 4.5]))
    field = made(labels, spacing)
    if field.box is None:
        return
    found = field.distances(reach)
    outside = {
        v: ndimage.distance_transform_edt(labels != v, sampling=spacing)[found.window]
        for v in field.counts
    }
    crop = labels[found.window]
    nearest = np.min(list(outside.values()), axis=0)
    near = (crop == 0) & (nearest <= reach)
    np.testing.assert_allclose(found.signed[near], nearest[near] ** 2, rtol=1e-5)
    assert np.all(found.signed[(crop == 0) & ~near] > reach**2)
    for value, distance in outside.items():
        own = near & (found.nearest == value)
        np.testing.assert_allclose(distance[own], nearest[own], rtol=1e-6)
        if not np.all(labels == value):
            inside = ndimage.distance_transform_edt(labels == value, sampling=spacing)
            depth = inside[found.window]
            shallow = (crop == value) & (depth <= reach)
            np.testing.assert_allclose(-found.signed[shallow], depth[shallow] ** 2, rtol=1e-5)
            assert np.all(found.signed[(crop == value) & ~shallow] < -(reach**2))


@settings(max_examples=100)
@given(label_maps(values=3))
def test_distances_to_every_value_are_those_of_scipy(labels: np.ndarray) -> None:
    field = made(labels)
    if field.box is None or np.all(labels):
        return
    found = field.distances(2.5)
    for value in {0, *field.counts}:
        expected = ndimage.distance_transform_edt(labels != value)[found.window]
        near = (expected <= 2.5) & (found.labels > 0)
        np.testing.assert_allclose(found.outside[value][near], expected[near] ** 2, rtol=1e-5)
        assert np.all(found.outside[value][(expected > 2.5) & (found.labels > 0)] > 2.5**2)


def test_an_image_full_of_one_structure_has_no_boundary() -> None:
    found = made(np.ones((4, 5), np.uint8), values=2).distances(2.0)
    assert np.all(np.isneginf(found.signed))


def test_distances_are_measured_again_only_for_a_longer_reach() -> None:
    field = made(np.pad(np.ones((2, 2), np.uint8), 5), values=2)
    first = field.distances(3.0)
    assert field.distances(2.0) is first
    assert field.distances(4.0) is not first


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.0)])
def test_a_longer_reach_changes_no_distance_within_the_shorter(spacing: tuple[float, ...]) -> None:
    labels = np.random.default_rng(3).integers(0, 3, (9, 11)).astype(np.uint8)
    labels[:3] = 0
    short, long = (made(labels, spacing).distances(reach) for reach in (1.0, 4.0))
    full = np.full(labels.shape, np.inf, np.float32)
    wide = full.copy()
    full[short.window], wide[long.window] = short.signed, long.signed
    near = np.abs(wide) <= 1.0
    np.testing.assert_array_equal(full[near], wide[near])
