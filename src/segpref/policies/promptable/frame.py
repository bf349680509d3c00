"""From the pixels of an image to those of a promptable network and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from segpref.prompts import Box, Point
from segpref.runtime import moved
from segpref.types import SegprefError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Fit", "Frame", "coloured"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Fit = Literal["pad", "stretch"]


@dataclass(frozen=True, slots=True)
class Frame:
    """How an image of ``shape`` lies in the network's square of ``side`` pixels.

    ``pad``: the longer side fills the square and the rest is zero, at the bottom or on the right, as
    SAM does. ``stretch``: both sides fill it, as SAM 2 does. A square image is the same under both.

    Pixel centres are mapped exactly, ``x' = (x + 1/2) s - 1/2``, so that a flipped image has flipped
    prompts; SAM's own processor takes ``x' = x s``, up to ``(s - 1) / 2`` of the network's pixels away.

    Args:
        shape: ``(H, W)`` of the image.
        side: of the network's input.
        fit: see above.
        stretched: whether the intensities of each image are stretched to 0 to 1, over all channels
            together and before anything is filled with zeros. A flat image becomes 0.
    """

    shape: tuple[int, int]
    side: int
    fit: Fit = "pad"
    stretched: bool = False

    @property
    def inner(self) -> tuple[int, int]:
        """``(h, w)`` of the image within the square."""
        if self.fit == "stretch":
            return self.side, self.side
        longest = max(self.shape)
        height, width = (max(1, int(n * self.side / longest + 0.5)) for n in self.shape)
        return height, width

    def pixels(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 side side"]:
        """Images in the square."""
        resized = _resized(images, self.inner)
        if self.stretched:
            resized = _stretched(resized)
        return self._placed(resized, self.side, self.inner)

    def points(self, points: Sequence[Point]) -> list[list[float]]:
        """``x, y`` of points in the square."""
        return [[self._x(x), self._y(y)] for x, y, _ in points]

    def box(self, box: Box) -> list[float]:
        """A box in the square."""
        return [self._x(box[0]), self._y(box[1]), self._x(box[2]), self._y(box[3])]

    def mask(self, masks: Float[Tensor, "n 1 H W"], side: int) -> Float[Tensor, "n 1 side side"]:
        """Mask prompts at the resolution of the network's own masks; 0 beside the image."""
        square = self._placed(_resized(masks, self.inner), self.side, self.inner)
        return _resized(square, (side, side))

    def restored(self, masks: Float[Tensor, "n M h w"]) -> Float[Tensor, "n M H W"]:
        """The network's masks at the image's own resolution."""
        if self.inner == (self.side, self.side):
            return _enlarged(masks, self.shape)
        square = _enlarged(masks, (self.side, self.side))
        return _enlarged(square[..., : self.inner[0], : self.inner[1]], self.shape)

    def _x(self, x: float) -> float:
        return (x + 0.5) * self.inner[1] / self.shape[1] - 0.5

    def _y(self, y: float) -> float:
        return (y + 0.5) * self.inner[0] / self.shape[0] - 0.5

    @staticmethod
    def _placed(images: Tensor, side: int, inner: tuple[int, int]) -> Tensor:
        return functional.pad(images, (0, side - inner[1], 0, side - inner[0]))


def coloured(
    images: Float[Tensor, "B channel H W"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "B 3 H W"]:
    """Prepared images with the three channels and the intensities that the encoder was trained on.

    ``(image - mean) / std``; a grey image is repeated. Prepared images run from 0 to 1
    (``min-max``, ``percentile``).

    Raises:
        SegprefError: neither one channel nor three.
    """
    if images.shape[1] not in (1, 3):
        raise SegprefError(
            f"a promptable model takes images of 1 or 3 channels, not {images.shape[1]}: choose one"
        )
    shape = (1, 3, 1, 1)
    colour = images.expand(-1, 3, -1, -1)
    centre, width = (
        moved(torch.tensor(one, dtype=colour.dtype), colour.device).reshape(shape)
        for one in (mean, std)
    )
    return (colour - centre) / width


def _resized(images: Tensor, shape: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == shape:
        return images
    return functional.interpolate(
        images, size=shape, mode="bilinear", antialias=True, align_corners=False
    )


def _stretched(images: Tensor) -> Tensor:
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    width = images.amax(dim=(1, 2, 3), keepdim=True) - low
    return (images - low) / width.clamp(min=1e-8)


def _enlarged(masks: Tensor, shape: tuple[int, int]) -> Tensor:
    # Without the low-pass filter, as in SAM: it would blur logits that are made smaller.
    if tuple(masks.shape[2:]) == shape:
        return masks
    return functional.interpolate(
        masks.to(torch.promote_types(masks.dtype, torch.float32)),
        size=shape,
        mode="bilinear",
        align_corners=False,
    )
