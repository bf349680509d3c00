"""Masks of dropout by the seeds of images, also as an operation that a compiler leaves whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segpref.seeds import derive_seed

__all__ = ["drawn_masks", "seeded_masks"]


def drawn_masks(
    features: Tensor, shape: Sequence[int], rate: float, sources: Sequence[torch.Generator]
) -> Tensor:
    """A mask ``shape`` for each source, on the device of the features: 0 with this rate, and else 1."""
    masks = [
        features.new_empty(tuple(shape)).bernoulli_(1 - rate, generator=source)
        for source in sources
    ]
    return torch.stack(masks)


@torch.library.custom_op("segpref::seeded_masks", mutates_args=())
def seeded_masks(
    features: Tensor, seeds: Tensor, rate: float, layer: int, shape: list[int]
) -> Tensor:
    """The same by the seeds of images, int64 ``[B]``, and the number of a layer.

    Python's whole numbers and generators do not compile; within this operation nothing does. It is a
    function of its arguments, so that a pass that is made again for its gradient has the same masks.
    """
    sources = [
        torch.Generator(features.device).manual_seed(derive_seed(seed, layer))
        for seed in seeds.tolist()
    ]
    return drawn_masks(features, shape, rate, sources)


@seeded_masks.register_fake
def _(features: Tensor, seeds: Tensor, rate: float, layer: int, shape: list[int]) -> Tensor:
    return features.new_empty([len(seeds), *shape])
