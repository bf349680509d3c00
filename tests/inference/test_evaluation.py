from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segpref.data import Dataset, Source, Volume
from segpref.inference import mean_iou, mean_of, predict_masks, score_masks, score_model
from segpref.policies import load_model
from segpref.types import IGNORE, LabelSpace, SegprefError

SPACE = LabelSpace("multi-class", ("background", "a", "b"))


def volume(labels: list[list[list[int]]], name: str = "v", **more: Any) -> Volume:
    label = np.array(labels, np.uint8)[:, None]
    return Volume(
        source=Source(id=name, patient=name, images=()),
        key={},
        images=np.zeros(label.shape, np.float32),
        labels=label,
        spacing_mm=more.get("spacing_mm"),
    )


def masks(values: list[list[list[int]]]) -> np.ndarray:
    return np.array(values, np.uint8)[:, None]


def rows(truth: Volume, predicted: np.ndarray, **options: Any) -> dict[str, dict[str, Any]]:
    items = list(range(len(predicted)))
    found = score_masks([(truth, items, predicted)], SPACE, **options)
    return {str(row["structure"]): row for row in found}


def test_slices_of_a_volume_are_stacked() -> None:
    truth = volume([[[1, 1, 0, 0]], [[1, 0, 0, 0]]])
    got = rows(truth, masks([[[1, 1, 1, 1]], [[0, 0, 0, 0]]]), slices=True)["a"]
    assert got["iou"] == pytest.approx(2 / 5)  # 2 common of 4 + 1; the mean of slices is 1/4
    assert got["dice"] == pytest.approx(4 / 7)
    assert got["slice_iou"] == pytest.approx((2 / 4 + 0) / 2)
    assert (got["volume"], got["patient"]) == ("v", "v")


def test_what_truth_and_prediction_both_lack_is_left_out() -> None:
    truth = volume([[[1, 0]], [[0, 0]]])
    got = rows(truth, masks([[[1, 0]], [[0, 0]]]), slices=True)
    assert got["a"]["iou"] == 1
    assert got["a"]["slice_iou"] == 1
    assert math.isnan(got["b"]["iou"])
    assert math.isnan(got["b"]["slice_iou"])
    assert rows(truth, masks([[[1, 2]], [[0, 0]]]))["b"]["iou"] == 0
    assert mean_iou(list(got.values())) == 1


def test_ignored_pixels_do_not_count() -> None:
    truth = volume([[[1, IGNORE, IGNORE, 0]]])
    assert rows(truth, masks([[[1, 1, 2, 0]]]))["a"]["iou"] == 1
    assert math.isnan(rows(truth, masks([[[1, 1, 2, 0]]]))["b"]["iou"])


def test_what_is_drawn_on_ignored_pixels_has_no_surface() -> None:
    truth = volume([[[1, 1, 0, 0, IGNORE, IGNORE]] * 4])
    row = rows(truth, masks([[[1, 1, 0, 0, 1, 1]] * 4]), surface=True)["a"]
    assert row["hd95_voxel"] == 0


@pytest.mark.parametrize("structures", [SPACE, LabelSpace("multi-label", ("a", "b"))])
@pytest.mark.parametrize("spacing_mm", [None, (1.0, 2.0)])
def test_no_score_depends_on_what_is_predicted_where_nobody_knows(
    structures: LabelSpace, spacing_mm: tuple[float, ...] | None
) -> None:
    rng = np.random.default_rng(0)
    shape, values = (3, structures.fields, 9, 8), structures.values
    truth = rng.integers(0, values, shape).astype(np.uint8)
    unknown = rng.random(shape) < 0.3
    predicted = rng.integers(0, values, shape).astype(np.uint8)
    other = np.where(unknown, rng.integers(0, values, shape), predicted).astype(np.uint8)
    assert (other != predicted).any()
    blank = volume([[[0]]], spacing_mm=spacing_mm)
    known = replace(blank, labels=np.where(unknown, IGNORE, truth).astype(np.uint8))
    one, two = (
        score_masks([(known, [0, 1, 2], drawn)], structures, surface=True, slices=True)
        for drawn in (predicted, other)
    )
    assert one == two
    assert len(one[0]) == 13
    # It is not that nothing matters.
    full = replace(blank, labels=truth)
    assert score_masks([(full, [0, 1, 2], predicted)], structures) != score_masks(
        [(full, [0, 1, 2], other)], structures
    )


def test_the_mean_is_over_volumes_first() -> None:
    table = [
        {"structure": "a", "iou": 0.2},
        {"structure": "a", "iou": 0.4},
        {"structure": "b", "iou": 0.9},
        {"structure": "b", "iou": math.nan},
        {"structure": "c", "iou": math.nan},
    ]
    means = mean_of(table, "iou")
    assert means["a"] == pytest.approx(0.3)
    assert means["b"] == 0.9
    assert math.isnan(means["c"])
    assert mean_iou(table) == pytest.approx(0.6)
    assert mean_of([{"structure": "a", "hd95_mm": math.inf}, *table[:1]], "hd95_mm")["a"] != 0


def test_surface_distances_are_in_the_unit_that_is_known() -> None:
    truth = masks([[[1, 1, 0, 0, 0]] * 5])
    moved = masks([[[1, 1, 1, 0, 0]] * 5])
    for spacing, unit in (((1.0, 3.0), "mm"), (None, "voxel")):
        known = replace(volume([[[1, 1, 0, 0, 0]] * 5]), spacing_mm=spacing)
        row = rows(known, moved, surface=True)["a"]
        units = [name for name in row if unit in name]
        assert units
        assert not [name for name in row if {"mm": "_voxel", "voxel": "_mm"}[unit] in name]
        exact = rows(known, truth, surface=True)["a"]
        assert all(exact[name] == 0 for name in units if "dice" not in name)


def test_labels_are_needed() -> None:
    bare = replace(volume([[[1]]]), labels=None)
    with pytest.raises(SegprefError, match="v has no label"):
        score_masks([(bare, [0], masks([[[1]]]))], SPACE)


class Truth:
    """Predicts the label, looked up by the image."""

    def __init__(self, dataset: Dataset) -> None:
        self.label_space = dataset.label_space
        self.known = {one.image.tobytes(): one.label for one in dataset}

    def logits(self, images: Tensor) -> Tensor:
        found = np.stack([self.known[image.numpy().tobytes()] for image in images])
        onehot = torch.nn.functional.one_hot(torch.from_numpy(found[:, 0]).long(), 4)
        return onehot.movedim(-1, 1).float()

    def digest(self) -> str:
        return "truth"


def test_the_truth_scores_one(hearts: Dataset) -> None:
    part = hearts.take([7, 3, 30])
    found = score_model(Truth(part), part)
    assert {row["volume"] for row in found} == {one.volume for one in part}
    values = [float(row["iou"]) for row in found]
    assert all(math.isnan(value) or value == 1 for value in values)
    assert mean_iou(found) == 1


def test_batches_do_not_matter(hearts: Dataset, heart_base: Path) -> None:
    model, _ = load_model(heart_base)
    part = hearts.take(range(5))
    for (first, _, one), (second, _, other) in zip(
        predict_masks(model, part, batch_size=1), predict_masks(model, part), strict=True
    ):
        assert first.source.id == second.source.id
        assert (one != other).mean() < 1e-3


def test_only_the_cases_of_the_dataset_are_predicted() -> None:
    whole = volume([[[1, 1]], [[0, 0]], [[2, 2]]])

    class Two:
        label_space = SPACE

        def logits(self, images: Tensor) -> Tensor:
            return torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(len(images), 3, 1, 2)

        def digest(self) -> str:
            return "two"

    dataset = Dataset([whole], SPACE, items=[(0, 0), (0, 2)])
    (found,) = predict_masks(Two(), dataset)
    assert found[1] == [0, 2]
    assert found[2].shape == (2, 1, 1, 2)
    table = {row["structure"]: row["iou"] for row in score_model(Two(), dataset)}
    assert table == {"a": 0, "b": pytest.approx(0.5)}
