"""A judge's figures per structure, by hand."""

from __future__ import annotations

import numpy as np

from segpref.metrics import structure_figures, structure_slate
from segpref.types import LabelSpace, Pairs

CLASSES = LabelSpace("multi-class", ("background", "a", "b"))
LABELS = LabelSpace("multi-label", ("a", "b"))


def pairs(*rows: tuple[int, int, int, int]) -> Pairs:
    """(case, field, winner, loser)"""
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return Pairs(*columns, np.ones(columns.shape[1]))


def test_of_structures_apart_each_has_its_own_scores():
    truth = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], np.uint8)
    masks = np.stack([truth, truth, truth])
    masks[1, 1], masks[2, 0, 1] = 0, 0  # b is lost; half of a is
    scores = np.array([[0.9, 0.2], [0.8, 0.9], [0.1, 0.3]])
    slates = [structure_slate(masks, truth, LABELS)]
    quality = slates[0].quality
    np.testing.assert_array_equal(quality, [[1, 1], [1, 0], [0.5, 1]])
    mined = pairs((0, 0, 0, 2), (0, 1, 1, 0))
    a, b = structure_figures(slates, [scores], [quality], [masks], mined, LABELS)
    assert (a.headroom, a.harm_top, a.pair_flip, a.empty, a.pairs) == (0, 0, 0, 0, 1)
    assert (b.headroom, b.harm_top, b.pair_flip, b.empty, b.pairs) == (-1, 1, 1, 1 / 3, 1)
    assert (b.empty_truth, b.slates, b.abstained) == (0, 1, 0)
    scores[:, 1] = np.nan
    _, b = structure_figures(slates, [scores], [quality], [masks], pairs(), LABELS, ["b"])
    assert np.isnan([b.headroom, b.harm_top, b.pair_flip]).all()
    assert (b.slates, b.pairs, b.abstained) == (0, 0, 1)


def test_of_exclusive_classes_a_pair_is_of_the_one_in_which_it_differs_most():
    truth = np.array([[1, 1, 1, 2, 2, 0]], np.uint8)
    masks = np.array([[[1, 1, 1, 2, 2, 0]], [[0, 0, 1, 2, 2, 2]], [[1, 1, 1, 0, 0, 0]]], np.uint8)
    scores = np.array([[0.1], [0.5], [0.9]])
    slates = [structure_slate(masks, truth, CLASSES)]
    quality = slates[0].quality.mean(axis=1, keepdims=True)
    mined = pairs((0, 0, 1, 0), (0, 0, 2, 0))
    a, b = structure_figures(slates, [scores], [quality], [masks], mined, CLASSES)
    # The first pair differs in two pixels of a and one of b, the second in two of b.
    assert (a.pairs, a.pair_flip, a.headroom) == (1, 1, 0)
    assert (b.pairs, b.pair_flip, b.headroom, b.harm_top) == (1, 1, -1, 1)


def test_slates_without_the_structure_say_nothing_of_it():
    truth = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], np.uint8)
    masks = np.stack([truth, truth])
    slates = [structure_slate(masks, truth, LABELS)]
    scores = np.array([[0.9, 0.9], [0.1, 0.1]])
    _, b = structure_figures(slates, [scores], [scores], [masks], pairs(), LABELS)
    assert (b.slates, b.abstained, b.empty, b.empty_truth) == (0, 0, 1, 1)
