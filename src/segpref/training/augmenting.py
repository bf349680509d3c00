"""The augmentations of stage 1, as MONAI transforms (RN-DPO, Sec. 4.2), and strong ones.

Stage 2 uses none. The weak augmentations move image and label alike, case by case; the strong ones
change only intensities, a whole batch at a time, because consistency training needs them in every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.checking import checked
from segpref.late import late
from segpref.runtime import moved
from segpref.seeds import derive_seed
from segpref.types import Case, SegprefError

__all__ = [
    "AugmentationName",
    "StrongAugmentation",
    "augmentation",
    "augmented_batch",
    "normal_noise",
]

meta_obj = late("monai.data.meta_obj")
monai_transforms = late("monai.transforms")

AugmentationName = Literal["flips-rotations", "photometric", "none"]


def augmentation(name: AugmentationName, dims: int, angle_degrees: float = 180.0) -> Any:
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
        return monai_transforms.Compose(
            [
                *(
                    monai_transforms.RandFlipd(both, prob=0.5, spatial_axis=axis)
                    for axis in range(dims)
                ),
                monai_transforms.RandAffined(
                    both,
                    prob=0.8,
                    rotate_range=_turn(angle, dims),
                    mode=modes,
                    padding_mode="border",
                ),
            ]
        )
    return monai_transforms.Compose(
        [
            monai_transforms.RandAffined(
                both,
                prob=0.9,
                rotate_range=_turn(np.deg2rad(10), dims),
                scale_range=[(-0.2, 0.2)] * dims,
                translate_range=[8] * dims,
                mode=modes,
                padding_mode="border",
            ),
            monai_transforms.RandScaleIntensityd("image", factors=0.2, prob=0.5),
            monai_transforms.RandShiftIntensityd("image", offsets=0.1, prob=0.5),
            monai_transforms.RandAdjustContrastd("image", gamma=(0.7, 1.5), prob=0.5),
        ]
    )


def augmented_batch(cases: Sequence[Case], transforms: Any, seed: int) -> tuple[Tensor, Tensor]:
    """Images ``[B, channel, *space]`` and labels ``[B, field, *space]``, changed alike.

    The seed and a case's id determine how the case is changed, whatever else is in the batch.
    """
    images, labels = [], []
    with _plain_tensors():
        for case in cases:
            assert case.label is not None
            item = {
                "image": torch.from_numpy(np.array(case.image)),
                "label": torch.from_numpy(np.array(case.label)),
            }
            if transforms is not None:
                transforms.set_random_state(derive_seed(seed, case.id) % 2**32)
                item = transforms({"image": item["image"], "label": item["label"].float()})
            images.append(item["image"])
            labels.append(item["label"].to(torch.uint8))
    return torch.stack(images), torch.stack(labels)


@contextmanager
def _plain_tensors() -> Iterator[None]:
    # Else MONAI gives tensors that carry affines along, which costs every operation of the network.
    before = meta_obj.get_track_meta()
    meta_obj.set_track_meta(False)
    try:
        yield
    finally:
        meta_obj.set_track_meta(before)


def _turn(angle: float, dims: int) -> list[float] | float:
    # In 3D only about the third axis, so that anisotropic volumes are not sheared through slices.
    return float(angle) if dims == 2 else [0.0, 0.0, float(angle)]


@checked()
@dataclass(frozen=True)
class StrongAugmentation:
    """Gamma, contrast, brightness, blur and noise, drawn for every image and channel.

    Intensities are taken relative to the range of each image and channel, so that it does not matter
    how the preparation normalised them; nothing moves, so a mask of the image stays its mask. The
    result may leave the range: nothing is clipped, where saturated pixels would say nothing.

    Args:
        probability: of each of the five changes, independently.
        brightness: largest shift, as a share of the range.
        contrast: largest relative change of the distances to the mean.
        gamma: largest exponent; the smallest is its inverse, their logarithms are uniform.
        blur: largest standard deviation of a Gaussian blur, in pixels.
        noise: largest standard deviation of Gaussian noise, as a share of the range.
    """

    probability: float = 0.8
    brightness: float = 0.25
    contrast: float = 0.5
    gamma: float = 2.0
    blur: float = 1.0
    noise: float = 0.1

    def __post_init__(self) -> None:
        sizes = (self.brightness, self.contrast, self.blur, self.noise)
        if not (0 <= self.probability <= 1 and self.gamma >= 1 and min(sizes) >= 0):
            raise SegprefError(
                "a strong augmentation needs a probability between 0 and 1, gamma of at least 1 and "
                f"no negative strength, not {self}"
            )

    def __call__(
        self,
        images: Float[Tensor, "B channel *space"],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "B channel *space"]:
        """Changed copies of the images; one generator per image, on the CPU."""
        axes = tuple(range(2, images.ndim))
        shape = (images.shape[1], *[1] * len(axes))

        def uniform() -> Tensor:
            return torch.stack([torch.rand(shape, generator=one) for one in generators])

        def drawn(least: float, most: float, neutral: float) -> Tensor:
            value = least + (most - least) * uniform()
            used = uniform() < self.probability
            return moved(torch.where(used, value, neutral), images.device)

        low = images.amin(axes, keepdim=True)
        span = (images.amax(axes, keepdim=True) - low).clamp(min=1e-6)
        steepness = float(np.log(self.gamma))
        relative = ((images - low) / span) ** drawn(-steepness, steepness, 0.0).exp()
        mean = relative.mean(axes, keepdim=True)
        relative = mean + (relative - mean) * drawn(1 - self.contrast, 1 + self.contrast, 1.0)
        relative = relative + drawn(-self.brightness, self.brightness, 0.0)
        relative = _blurred(relative, drawn(0.0, self.blur, 0.0))
        noise = normal_noise(images, generators)
        return low + span * (relative + drawn(0.0, self.noise, 0.0) * noise)


def normal_noise(
    images: Float[Tensor, "B channel *space"], generators: Sequence[torch.Generator]
) -> Float[Tensor, "B channel *space"]:
    """Standard normal noise of the images' shape, of each image from its own generator."""
    drawn = [torch.randn(images.shape[1:], generator=one) for one in generators]
    return moved(torch.stack(drawn), images.device)


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a width per image and channel; at the border the weights are renormalised."""
    for axis in range(2, images.ndim):
        place = torch.arange(images.shape[axis], device=images.device)
        squared = (place[:, None] - place) ** 2
        # One matrix per axis and image: on the CPU many times faster than a grouped convolution.
        width = sigma.flatten(2)[..., None].clamp(min=1e-2)
        weights = torch.exp(-squared / (2 * width**2))
        weights = weights / weights.sum(-1, keepdim=True)
        moved = images.movedim(axis, -1)
        rows = moved.flatten(2, -2) @ weights.mT
        images = rows.reshape(moved.shape).movedim(-1, axis)
    return images
