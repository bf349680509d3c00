"""Overlap counts against naive sums, scikit-learn-like formulas and MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import ConfusionMatrixMetric, compute_dice, compute_iou

from segpref.metrics import (
    Overlap,
    dice,
    iou,
    overlap_counts,
    precision,
    sensitivity,
    slate_iou,
    volume_difference,
    volume_scores,
)
from segpref.types import IGNORE, LabelSpace, Region, SegprefError

CLASSES = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
STRUCTURES = LabelSpace("multi-label", ("lung", "heart", "clavicle"))
NESTED = LabelSpace(
    "multi-class",
    ("background", "oedema", "core", "enhancing"),
    (Region("whole", (1, 2, 3)), Region("core", (2, 3)), Region("enhancing", (3,))),
)
SPACES = pytest.mark.parametrize("space", [CLASSES, STRUCTURES, NESTED], ids=["mc", "ml", "nested"])


def draw(seed: int, space: LabelSpace, shape: tuple[int, ...], k: int, ignore: float):
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, space.values, (k, space.fields, *shape)).astype(np.uint8)
    truth = rng.integers(0, space.values, (space.fields, *shape)).astype(np.uint8)
    truth[rng.random(truth.shape) < ignore] = IGNORE
    return masks, truth


def naive(masks, truth, space):
    """Structure masks by the label space, ignored pixels cut out by indexing, plain sums."""
    rows = []
    for mask in masks:
        row = []
        for s in range(len(space.structures)):
            known = truth[s if space.kind == "multi-label" else 0] != IGNORE
            p = space.structure_masks(mask)[s][known]
            t = space.structure_masks(truth)[s][known]
            row.append(((p & t).sum(), p.sum(), t.sum()))
        rows.append(row)
    return np.array(rows)


@SPACES
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 9), min_size=2, max_size=3),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_counts_are_plain_sums(space, seed, shape, k, ignore):
    masks, truth = draw(seed, space, tuple(shape), k, ignore)
    counts = overlap_counts(masks, truth, space)
    found = np.stack([counts.intersection, counts.predicted, counts.true], -1)
    np.testing.assert_array_equal(found, naive(masks, truth, space))


@SPACES
@pytest.mark.parametrize("shape", [(16, 24), (13, 11), (4, 5, 6)])
def test_scores_are_monais(space, shape):
    masks, truth = draw(1, space, shape, 3, 0.0)
    masks[0] = 0
    structures = torch.from_numpy(space.structure_masks(masks, field_axis=1))
    label = torch.from_numpy(space.structure_masks(truth)[None]).expand_as(structures)
    counts = overlap_counts(masks, truth, space)
    for ours, theirs in ((iou, compute_iou), (dice, compute_dice)):
        expected = theirs(structures, label, include_background=True)
        np.testing.assert_allclose(ours(counts), expected.numpy(), rtol=1e-6)


def test_worked_example():
    masks = np.array([[[0, 1, 1, 2]], [[1, 1, 0, 0]]], dtype=np.uint8)
    truth = np.array([[0, 1, 2, 2]], dtype=np.uint8)
    space = LabelSpace("multi-class", ("none", "one", "two", "three"))
    counts = overlap_counts(masks, truth, space)
    np.testing.assert_allclose(iou(counts), [[1 / 2, 1 / 2, 1], [1 / 2, 0, 1]])
    np.testing.assert_allclose(dice(counts, np.nan), [[2 / 3, 2 / 3, np.nan], [2 / 3, 0, np.nan]])
    # Nobody holds three: it is left out of the mean.
    np.testing.assert_allclose(slate_iou(masks, truth, space), [[1 / 2], [1 / 4]])


def test_ignored_candidate_pixels_hold_no_structure():
    masks = np.array([[[1, IGNORE]]], dtype=np.uint8)
    truth = np.array([[1, 1]], dtype=np.uint8)
    counts = overlap_counts(masks, truth, LabelSpace("multi-class", ("none", "one")))
    assert iou(counts).tolist() == [[0.5]]


def test_slate_iou_scores_all_candidates_on_the_same_classes():
    """A class that only one candidate holds counts against it, and for those without it."""
    masks = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 3]]], dtype=np.uint8)
    reference = np.array([[1, 1, 0, 0]], dtype=np.uint8)
    np.testing.assert_allclose(slate_iou(masks, reference, CLASSES), [[1.0], [0.5]])


def test_slate_iou_of_nothing_against_nothing_is_one():
    empty = np.zeros((2, 1, 4, 4), np.uint8)
    assert slate_iou(empty, empty[0], CLASSES).tolist() == [[1.0], [1.0]]
    masks = np.zeros((2, 3, 4, 4), np.uint8)
    masks[1, 0, 0] = 1
    found = slate_iou(masks, masks[0], STRUCTURES)
    assert found.tolist() == [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]


@given(st.integers(0, 2**32 - 1))
def test_slate_iou_is_invariant_to_the_order_of_the_slate(seed):
    masks, truth = draw(seed, CLASSES, (5, 5), 4, 0.2)
    order = np.random.default_rng(seed).permutation(4)
    found = slate_iou(masks, truth, CLASSES)
    np.testing.assert_array_equal(slate_iou(masks[order], truth, CLASSES), found[order])
    assert ((found >= 0) & (found <= 1)).all()


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["multi-class", "multi-label"]))
def test_some_candidates_score_as_they_do_among_all(seed, kind):
    rng = np.random.default_rng(seed)
    space = LabelSpace(kind, ("a", "b", "c", "d"))
    # Most classes are rare, so that one is often held by a candidate that is not asked for.
    chances = [0.97, 0.01, 0.01, 0.01] if kind == "multi-class" else [0.97, 0.03]
    shape = (space.fields, 4, 4)
    masks = rng.choice(space.values, (6, *shape), p=chances).astype(np.uint8)
    reference = rng.choice(space.values, shape, p=chances).astype(np.uint8)
    rows = rng.permutation(6)[: rng.integers(1, 4)].tolist()
    everything = slate_iou(masks, reference, space)
    assert np.array_equal(slate_iou(masks, reference, space, only=rows), everything[rows])


def test_volume_scores_equal_those_of_the_stacked_volume():
    masks, _ = draw(2, CLASSES, (6, 7), 5, 0.0)
    truths, _ = draw(3, CLASSES, (6, 7), 5, 0.0)
    masks[masks == 3], truths[truths == 3] = 0, 0
    slices = [overlap_counts(m[None], t, CLASSES) for m, t in zip(masks, truths, strict=True)]
    counts = Overlap(*(np.concatenate([getattr(c, n) for c in slices]) for n in Overlap.__slots__))
    scores = volume_scores(counts, ["b", "b", "a", "b", "a"])
    assert scores.volumes == ("b", "a")
    for row, rows in enumerate(([0, 1, 3], [2, 4])):
        stacked = np.moveaxis(masks[rows], 0, -1), np.moveaxis(truths[rows], 0, -1)
        whole = overlap_counts(stacked[0][None], stacked[1], CLASSES)
        np.testing.assert_allclose(scores.iou[row, :2], iou(whole)[0, :2])
        np.testing.assert_allclose(scores.dice[row, :2], dice(whole)[0, :2])
    assert np.isnan(scores.iou[:, 2]).all()


def test_masks_on_another_grid_are_refused():
    with pytest.raises(SegprefError, match="resample"):
        overlap_counts(np.zeros((2, 1, 4, 4), np.uint8), np.zeros((1, 4, 5), np.uint8), CLASSES)


def test_volume_names_must_match_the_slices():
    counts = overlap_counts(np.zeros((2, 1, 4), np.uint8), np.zeros((1, 4), np.uint8), CLASSES)
    with pytest.raises(SegprefError, match="one name per slice"):
        volume_scores(counts, ["a"])


def test_sensitivity_and_precision_are_monais():
    masks, truth = draw(2, STRUCTURES, (16, 24), 3, 0.0)
    counts = overlap_counts(masks, truth, STRUCTURES)
    for measure, name in ((sensitivity, "sensitivity"), (precision, "precision")):
        metric = ConfusionMatrixMetric(metric_name=name, reduction="none")
        metric(torch.from_numpy(masks), torch.from_numpy(truth)[None].expand(3, -1, -1, -1))
        np.testing.assert_allclose(measure(counts), metric.aggregate()[0].numpy(), rtol=1e-6)


def test_sensitivity_precision_and_volumes_by_hand():
    """Prediction and truth of 4 and 5 pixels with 3 in common; then one, the other, both empty."""
    counts = Overlap(np.array([[3, 0, 0, 0]]), np.array([[4, 2, 0, 0]]), np.array([[5, 0, 2, 0]]))
    np.testing.assert_array_equal(sensitivity(counts), [[3 / 5, np.nan, 0, np.nan]])
    np.testing.assert_array_equal(precision(counts), [[3 / 4, 0, np.nan, np.nan]])
    np.testing.assert_array_equal(volume_difference(counts), [[-1 / 5, np.inf, -1, np.nan]])
