"""Arrays cropped, padded and resized along their spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segpref.late import late

__all__ = ["Windows", "overlap", "resize", "resized"]

transforms = late("monai.transforms")

Windows = tuple[tuple[slice, ...], tuple[slice, ...]]
"""Where two arrays overlap: in the first, and in the second."""


def overlap(
    shape: Sequence[int], crop: Sequence[int], starts: Sequence[int] | None = None
) -> Windows:
    """Where a crop (or padding) lies in the array, and where the array lies in the crop.

    The crop is central, or starts at ``starts``, moved as far as it takes to lie within the array.
    """
    inside, outside = [], []
    starts = starts or [(n - m) // 2 for n, m in zip(shape, crop, strict=True)]
    for n, m, first in zip(shape, crop, starts, strict=True):
        start, kept = min(max(0, first), max(0, n - m)), min(n, m)
        inside.append(slice(start, start + kept))
        begin = max(0, (m - n) // 2)
        outside.append(slice(begin, begin + kept))
    return tuple(inside), tuple(outside)


def resized(items: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Images or, as uint8, labels ``[item, channel or field, *space]`` on a grid of another shape."""
    if items.shape[2:] == tuple(shape):
        return items
    labels = items.dtype == np.uint8
    tensor = torch.from_numpy(np.ascontiguousarray(items))
    result = resize(tensor.float(), shape, labels=labels).numpy()
    return result.astype(items.dtype)


def resize(items: Tensor, shape: Sequence[int], labels: bool = False) -> Tensor:
    """Items on a grid of another shape: linear, low-pass filtered if they shrink; labels nearest."""
    if tuple(items.shape[2:]) == tuple(shape):
        return items
    linear = "bilinear" if len(shape) == 2 else "trilinear"
    shrinks = any(after < before for after, before in zip(shape, items.shape[2:], strict=True))
    change = transforms.Resize(
        spatial_size=tuple(shape),
        mode="nearest-exact" if labels else linear,
        anti_aliasing=shrinks and not labels,
    )
    return torch.stack([torch.as_tensor(change(item)) for item in items])
