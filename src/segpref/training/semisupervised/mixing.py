"""CutMix-like mixing: boxes of one image pasted into another, in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from segpref.runtime import moved

__all__ = ["box_masks", "cutmix_masks", "paste_masks", "pasted"]


def box_masks(
    sides: Float[Tensor, "B dims"], shape: Sequence[int], generators: Sequence[torch.Generator]
) -> Bool[Tensor, "B 1 *space"]:
    """One box per image at a random place, wholly inside.

    Args:
        sides: length of each side as a share of the image's (0 to 1), rounded to pixels.
        shape: of the image.
        generators: one per image, on the CPU.
    """
    inside = torch.ones(len(sides), *[1] * (len(shape) + 1), dtype=torch.bool)
    for axis, length in enumerate(shape):
        side = (sides[:, axis].clamp(0, 1) * length).round()
        start = (_uniform(generators) * (length - side + 1)).floor()
        start = start.clamp(max=length - side)
        place = torch.arange(length)
        along = (place >= start[:, None]) & (place < (start + side)[:, None])
        around = [1] * (len(shape) + 1)
        around[axis + 1] = length
        inside = inside & along.reshape(len(sides), *around)
    return inside


def cutmix_masks(
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: float = 0.3,
) -> Bool[Tensor, "B 1 *space"]:
    """Boxes of CutMix as in UniMatch; an image without one has a mask that is False everywhere.

    The box's share of the image is uniform in ``area``. Its sides, relative to the image's, are
    those of a cube times factors whose logarithms are uniform and whose product is 1, so that in
    2D width / height lies in ``[aspect, 1 / aspect]``. Sides are cut at the image's.
    """
    dims = len(shape)
    share = area[0] + (area[1] - area[0]) * _uniform(generators)[:, None]
    drawn = torch.stack([torch.rand(dims, generator=one) for one in generators])
    stretch = math.log(aspect) * (drawn - 0.5)
    sides = (share.log() / dims + stretch - stretch.mean(1, keepdim=True)).exp()
    used = _uniform(generators)[:, None] < probability
    return box_masks(sides * used, shape, generators)


def paste_masks(
    shape: Sequence[int], generators: Sequence[torch.Generator], side: float = 2 / 3
) -> Bool[Tensor, "B 1 *space"]:
    """Boxes of copy-paste: every side is the same share of the image's (BCP, Sec. 3.1)."""
    return box_masks(torch.full((len(generators), len(shape)), side), shape, generators)


def _uniform(generators: Sequence[torch.Generator]) -> Float[Tensor, " B"]:
    """One number from 0 to 1 for each image."""
    return torch.cat([torch.rand(1, generator=one) for one in generators])


def pasted(inside: Tensor, outside: Tensor, box: Bool[Tensor, "B 1 *space"]) -> Tensor:
    """``inside`` within the box, ``outside`` around it; for images and for masks."""
    return torch.where(moved(box, inside.device), inside, outside)
