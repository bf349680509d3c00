"""The augmentations of stage 1, as MONAI transforms (RN-DPO, Sec. 4.2). Stage 2 uses none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from torch import Tensor

from segpref.types import Case

__all__ = ["AugmentationName", "augmentation", "augmented_batch"]

AugmentationName = Literal["flips-rotations", "photometric", "none"]


def augmentation(name: AugmentationName, dims: int, angle_degrees: float = 180.0) -> Compose | None:
    """Transforms of an image and its label.

    Args:
        name: ``flips-rotations`` (the paper's for ACDC: flips along every axis and rotations),
            ``photometric`` (for JSRT: small rotations, random resized crops, brightness, contrast and
            gamma; no flips, for left and right differ), or ``none``.
        dims: 2 or 3 spatial axes.
        angle_degrees: largest in-plane rotation of ``flips-rotations``.
    """
    if name == "none":
        return None
    both = ("image", "label")
    linear = "bilinear"
    modes = (linear, "nearest")
    if name == "flips-rotations":
        angle = np.deg2rad(angle_degrees)
        return Compose(
            [
                *(RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(dims)),
                RandAffined(
                    both,
                    prob=0.8,
                    rotate_range=_turn(angle, dims),
                    mode=modes,
                    padding_mode="border",
                ),
            ]
        )
    return Compose(
        [
            RandAffined(
                both,
                prob=0.9,
                rotate_range=_turn(np.deg2rad(10), dims),
                scale_range=[(-0.2, 0.2)] * dims,
                translate_range=[8] * dims,
                mode=modes,
                padding_mode="border",
            ),
            RandScaleIntensityd("image", factors=0.2, prob=0.5),
            RandShiftIntensityd("image", offsets=0.1, prob=0.5),
            RandAdjustContrastd("image", gamma=(0.7, 1.5), prob=0.5),
        ]
    )


def augmented_batch(
    cases: Sequence[Case], transforms: Compose | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Images ``[B, channel, *space]`` and labels ``[B, field, *space]``, changed alike."""
    if transforms is not None:
        transforms.set_random_state(seed)
    images, labels = [], []
    for case in cases:
        assert case.label is not None
        item = {
            "image": torch.from_numpy(np.array(case.image)),
            "label": torch.from_numpy(np.array(case.label)),
        }
        if transforms is not None:
            item = transforms({"image": item["image"], "label": item["label"].float()})
        images.append(torch.as_tensor(item["image"]))
        labels.append(torch.as_tensor(item["label"]).to(torch.uint8))
    return torch.stack(images), torch.stack(labels)


def _turn(angle: float, dims: int) -> list[float] | float:
    # In 3D only about the third axis, so that anisotropic volumes are not sheared through slices.
    return float(angle) if dims == 2 else [0.0, 0.0, float(angle)]
