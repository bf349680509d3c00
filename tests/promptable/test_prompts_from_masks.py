"""Prompts from masks and labels: boxes, points, components, the way through a preparation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import images_of, lesions

from segpref.data import Preparation
from segpref.prompts import (
    ExpertPrompts,
    FixedPrompts,
    LabelPrompts,
    Prompt,
    WholeImage,
    box_iou,
    box_of,
    in_prepared,
    jittered,
    largest_components,
    mask_logits,
    points_in,
)
from segpref.types import Case, SegprefError


def test_the_box_of_a_mask_lies_on_its_pixels_edges() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    assert box_of(mask) is None
    mask[2, 3] = True
    assert box_of(mask) == (2.5, 1.5, 3.5, 2.5)
    mask[4, 7] = True
    assert box_of(mask) == (2.5, 1.5, 7.5, 4.5)
    assert box_of(mask, margin=3) == (-0.5, -0.5, 7.5, 5.5)


def test_points_are_different_pixels_of_the_mask() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    mask[2:4, 3:6] = True
    points = points_in(mask, 4, np.random.default_rng(0))
    assert len(set(points)) == 4
    assert all(mask[int(y), int(x)] and label == 1 for x, y, label in points)
    assert len(points_in(mask, 99, np.random.default_rng(0))) == 6
    assert points_in(np.zeros((2, 2), dtype=bool), 3, np.random.default_rng(0)) == ()


def test_the_largest_components_are_kept() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[0:3, 0:3] = True  # 9
    mask[5:9, 5:9] = True  # 16
    mask[9, 0] = True  # 1
    mask[3, 3] = True  # touches the first at a corner: 10
    assert largest_components(mask, 1).sum() == 16
    assert largest_components(mask, 2).sum() == 26
    assert largest_components(mask, 9).sum() == 27
    assert largest_components(mask, 9, least_share=0.05).sum() == 26
    assert largest_components(np.zeros((4, 4), dtype=bool), 1).sum() == 0


def test_mask_logits_are_sure() -> None:
    found = mask_logits(np.array([[True, False]]))
    assert found.tolist() == [[6.0, -6.0]]


@given(seed=st.integers(0, 10**6), shift=st.floats(0, 2))
@settings(max_examples=60)
def test_jittered_prompts_are_valid_and_in_the_image(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 9)) < 0.2
    mask[4, 4] = True
    prompt = Prompt(box_of(mask), (*points_in(mask, 2, rng), (0.0, 0.0, 0)), text="x")
    other = jittered(prompt, mask.shape, rng, shift, mask)
    assert other.box is not None
    assert other.box[0] >= -0.5
    assert other.box[1] >= -0.5
    assert other.box[2] <= 8.5
    assert other.box[3] <= 11.5
    assert other.points[-1] == (0.0, 0.0, 0)
    assert all(mask[int(y), int(x)] for x, y, label in other.points if label)
    assert other.text == "x"
    if shift == 0:
        assert other.box == prompt.box


def test_box_iou_by_hand() -> None:
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert box_iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0


def test_prompts_drawn_from_labels() -> None:
    label = np.zeros((2, 10, 10), np.uint8)
    label[0, 3:6, 2:8] = 1
    rng = np.random.default_rng(0)
    one, absent = LabelPrompts(points=2, shift=0)(label, rng, ("a", None))
    assert one.box == (1.5, 2.5, 7.5, 5.5)
    assert len(one.points) == 2
    assert one.text == "a"
    assert absent == Prompt((-0.5, -0.5, 9.5, 9.5))
    drawn = [LabelPrompts(box_rate=0.5, point_rate=0.5)(label, rng)[0] for _ in range(60)]
    assert {(p.box is not None, bool(p.points)) for p in drawn} == {
        (True, True), (True, False), (False, True)
    }  # fmt: skip
    assert len({p.box for p in drawn if p.box}) > 10

    dataset = lesions(2)
    expert = ExpertPrompts(texts_of=WholeImage(1, ["a lesion"]))
    expert.prepare(dataset)
    found = expert(images_of(dataset))
    for case, (prompt,) in zip(dataset, found, strict=True):
        assert prompt.box == box_of(case.label[0] == 1)
        assert prompt.text == "a lesion"
    with pytest.raises(SegprefError, match="no expert prompts"):
        expert(images_of(lesions(1, first=9)))


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(dims=2),
        Preparation(dims=2, size=(32, 48)),
        Preparation(dims=2, crop=(40, 90), normalise="z-score"),
        Preparation(dims=2, spacing_mm=(0.75, 0.5), crop=(60, 64), size=(30, 32)),
    ],
)
@pytest.mark.parametrize("volume", [False, True])
def test_prompts_go_with_the_image_through_its_preparation(
    preparation: Preparation, volume: bool
) -> None:
    """The box of a drawn rectangle, moved, is the box of the prepared rectangle."""
    image = np.zeros((1, 60, 80), np.float32)
    image[:, 20:36, 30:46] = 1
    if volume:
        image = np.repeat(image[..., None], 2, axis=-1)
    spacing = (0.5, 0.5, 3.0) if volume else (0.5, 0.5)
    case = Case(id="c", patient="p", volume="c", image=image, spacing_mm=spacing)
    given = Prompt((29.5, 19.5, 45.5, 35.5), ((37.0, 27.0, 1), (-0.4, -0.4, 0)), text="x")
    if preparation.crop is not None:
        given = Prompt(given.box, given.points[:1], text="x")
    (moved,) = in_prepared([given], case, preparation)
    picture = preparation.apply(case).images[0, 0]
    bright = picture > (picture.min() + picture.max()) / 2
    expected = box_of(bright)
    assert moved.box is not None
    assert expected is not None
    assert moved.box == pytest.approx(expected, abs=0.6)
    x, y, label = moved.points[0]
    assert label == 1
    rows, columns = np.nonzero(bright)
    assert (x, y) == pytest.approx((columns.mean(), rows.mean()), abs=1.0)
    assert moved.text == "x"
    fixed = FixedPrompts([moved])
    assert fixed(torch.zeros(2, 1, 4, 4)) == [(moved,), (moved,)]
    assert fixed.key() != FixedPrompts([given]).key() or moved == given


def test_prompts_beyond_the_crop_are_refused() -> None:
    case = Case(id="c", patient="p", volume="c", image=np.zeros((1, 60, 80), np.float32))
    small = Preparation(dims=2, crop=(20, 20))
    for prompt, says in (
        (Prompt((0, 0, 10, 10)), "lies beyond the part"),
        (Prompt(points=((2.0, 2.0, 1),)), "all point prompts lie beyond"),
        (Prompt(mask=np.zeros((60, 80), np.float32)), "a mask prompt can't be moved"),
        (Prompt((0, 0, 100, 10)), "reaches beyond an image of 80 x 60"),
    ):
        with pytest.raises(SegprefError, match=says):
            in_prepared([prompt], case, small)
    (cut,) = in_prepared([Prompt((0, 0, 40, 30))], case, small)
    assert cut.box == pytest.approx((-0.5, -0.5, 10, 10))
