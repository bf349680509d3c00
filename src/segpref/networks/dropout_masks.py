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
    """A mask ``shape`` for each source, on the device of the features: 0 with this rate, and else 1.

    The rate is rounded to 1/65536: a number is dropped by 16 random bits of its own, and four at a time
    take a fourth to a third of the time of ``bernoulli_`` on a CPU.
    """
    masks = features.new_empty((len(sources), *shape))
    dropped = round(rate * 65536)
    if dropped in (0, 65536):
        return masks.fill_(dropped == 0)
    numbers = masks[0].numel()
    words = torch.empty(-(-numbers // 4), dtype=torch.int64, device=features.device)
    for mask, source in zip(masks, sources, strict=True):
        bits = words.random_(-(2**63), None, generator=source).view(torch.int16)[:numbers]
        mask.copy_((bits >= dropped - 32768).view(mask.shape))  # they have a sign
    return masks


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
