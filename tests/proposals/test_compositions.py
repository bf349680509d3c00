"""Composed edits equal their parts done one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segpref.proposals import (
    CleanedDropoutMean,
    CleanedExtremes,
    CleanedOffset,
    ProposalContext,
    biased,
    clean,
    fill_holes,
    offset,
)
from segpref.types import LabelSpace

CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))


def context(space: LabelSpace, **predictions: np.ndarray) -> ProposalContext:
    noise = np.random.default_rng(4).standard_normal((space.channels, 40, 44))
    logits = (ndimage.gaussian_filter(noise, (0, 2, 2)) * 8).astype(np.float32)
    if space.kind == "multi-class":
        logits[0] += 1
        anchor = logits.argmax(0).astype(np.uint8)[None]
    else:
        anchor = (logits > 0).astype(np.uint8)
    return ProposalContext(logits, anchor, space, predictions=predictions)


@pytest.mark.parametrize("space", [CARDIAC, CHEST])
def test_topology_then_offset(space: LabelSpace) -> None:
    start = context(space)
    found = list(CleanedOffset(steps=(1.0, -2.0))(start))
    assert [dict(settings) for settings, _ in found] == [
        {"offset_voxels": 1.0},
        {"offset_voxels": -2.0},
    ]
    for distance, (_, mask) in zip((1.0, -2.0), found, strict=True):
        expected = [offset(clean(labels), distance).labels for labels in start.fields]
        np.testing.assert_array_equal(mask, np.stack(expected))
        assert not np.array_equal(
            mask, np.stack([offset(f, distance).labels for f in start.fields])
        )


def test_dropout_mean_then_topology() -> None:
    mean = context(CARDIAC).anchor[:, ::-1]
    start = context(CARDIAC, **{"dropout-mean": mean})
    cleaned, filled = CleanedDropoutMean()(start)
    (labels,) = start.fields_of(mean)
    assert cleaned[0] == {"edit": "largest-component"}
    np.testing.assert_array_equal(cleaned[1][0], clean(labels).labels)
    np.testing.assert_array_equal(filled[1][0], fill_holes(labels, 0.5, 0.02).labels)


def test_extremes_then_topology_of_a_label_map() -> None:
    start = context(CARDIAC)
    found = list(CleanedExtremes(step=3.0, bias=2.0)(start))
    assert [dict(settings) for settings, _ in found] == [
        {"bias": 2.0},
        {"offset_voxels": 3.0},
        {"bias": -2.0},
        {"offset_voxels": -3.0},
    ]
    (field,) = start.fields
    for index, sign in ((0, 1), (2, -1)):
        (extreme,) = start.fields_of(biased(start, None, sign * 2.0))
        np.testing.assert_array_equal(found[index][1][0], clean(extreme).labels)
        moved = clean(offset(field, sign * 3.0)).labels
        np.testing.assert_array_equal(found[index + 1][1][0], moved)


def test_extremes_then_topology_of_structures() -> None:
    start = context(CHEST)
    found = list(CleanedExtremes(scales=(1.5, 0.5))(start))
    assert [next(iter(settings)) for settings, _ in found] == [
        "scale",
        "offset_voxels",
        "scale",
        "offset_voxels",
    ]
    for structure in found[2][1]:
        parts, count = ndimage.label(structure, np.ones((3, 3)))
        assert count == 1
        assert 0 < parts.sum() <= 0.52 * start.anchor.sum()


def test_nothing_to_compose_gives_nothing() -> None:
    empty = ProposalContext(np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), np.uint8), CHEST)
    assert list(CleanedOffset()(empty)) == []
    assert list(CleanedExtremes()(empty)) == []
    assert list(CleanedDropoutMean()(context(CARDIAC))) == []
    assert list(CleanedDropoutMean()(context(CHEST, **{"dropout-mean": empty.anchor}))) == []
