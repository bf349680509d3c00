from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data.meta_obj import get_track_meta

from segpref.training import augmentation, augmented_batch
from segpref.types import IGNORE, Case


def cases(*shape: int, count: int = 3) -> list[Case]:
    """Labels are blocks of 4 voxels; the image is the label."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        label = rng.choice([0, 1, 3], [n // 4 for n in shape]).astype(np.uint8)
        for axis in range(len(shape)):
            label = label.repeat(4, axis)
        made.append(
            Case(
                id=str(number),
                patient="p",
                volume="v",
                image=label[None].astype(np.float32),
                label=label[None],
            )
        )
    return made


@pytest.mark.parametrize("shape", [(32, 32), (16, 16, 8)])
@pytest.mark.parametrize("name", ["flips-rotations", "photometric"])
def test_image_and_label_move_together(name: Any, shape: tuple[int, ...]) -> None:
    transforms = augmentation(name, len(shape))
    moved = 0
    for seed in range(6):
        batch = cases(*shape)
        images, labels = augmented_batch(batch, transforms, seed)
        # MONAI's own tensors carry affines along, which every operation of a network would pay for.
        assert type(images) is type(labels) is torch.Tensor
        assert images.dtype == torch.float32
        assert labels.dtype == torch.uint8
        assert set(labels.unique().tolist()) <= {0, 1, 3}
        for case, image, label in zip(batch, images, labels, strict=True):
            moved += not np.array_equal(label.numpy(), case.label)
            assert np.corrcoef(image.numpy().ravel(), label.numpy().ravel())[0, 1] > 0.75
    assert moved > 9
    assert get_track_meta()


def test_batches_repeat_with_their_seed() -> None:
    transforms = augmentation("photometric", 2)
    batch = cases(32, 32)
    first = augmented_batch(batch, transforms, 7)
    augmented_batch(batch, transforms, 8)
    again, other = augmented_batch(batch, transforms, 7), augmented_batch(batch, transforms, 8)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    # The cases of a batch are changed differently, and the originals not at all.
    same = [batch[0], replace(batch[0], id="another")]
    images, _ = augmented_batch(same, transforms, 7)
    assert not torch.equal(images[0], images[1])
    np.testing.assert_array_equal(batch[0].image, cases(32, 32)[0].image)


def test_no_augmentation() -> None:
    batch = cases(8, 8)
    assert augmentation("none", 2) is None
    images, labels = augmented_batch(batch, None, 0)
    np.testing.assert_array_equal(images.numpy(), [case.image for case in batch])
    np.testing.assert_array_equal(labels.numpy(), [case.label for case in batch])


def test_ignored_pixels_stay_ignored() -> None:
    label = np.full((1, 16, 16), IGNORE, np.uint8)
    one = Case(
        id="a", patient="a", volume="a", image=np.zeros((1, 16, 16), np.float32), label=label
    )
    _, labels = augmented_batch([one], augmentation("flips-rotations", 2), 3)
    assert (labels == IGNORE).all()


def test_volumes_turn_within_their_slices_only() -> None:
    column = np.random.default_rng(0).integers(0, 3, (16, 16, 1)).repeat(8, 2).astype(np.uint8)
    one = Case(
        id="a", patient="a", volume="a", image=column[None].astype(np.float32), label=column[None]
    )
    transforms = augmentation("flips-rotations", 3)
    for seed in range(5):
        images, labels = augmented_batch([one], transforms, seed)
        assert (labels == labels[..., :1]).all()
        assert torch.allclose(images, images[..., :1].expand_as(images), atol=1e-3)


def test_left_and_right_stay_where_they_are_in_radiographs() -> None:
    label = np.zeros((1, 64, 64), np.uint8)
    label[:, 24:40, 8:16] = 1
    one = Case(id="a", patient="a", volume="a", image=label.astype(np.float32), label=label)
    transforms = augmentation("photometric", 2)
    for seed in range(20):
        _, labels = augmented_batch([one], transforms, seed)
        assert labels[..., :32].sum() > labels[..., 32:].sum()
