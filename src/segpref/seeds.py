"""Random seeds derived from their purpose, never from a generator's history.

Everything random is keyed by image: the same image gets the same augmentation, dropout and edits at the
same step, whatever else is in the batch and whichever process it falls to. So N processes give what one
gives, and a run that was killed continues to the bit-identical result.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
import torch

__all__ = ["derive_seed", "generators", "image_seeds", "normals"]


def derive_seed(*keys: int | str) -> int:
    """An independent 63-bit seed for these keys; a text counts by its checksum."""
    numbers = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    # Their number is part of it, for a seed sequence does not see zeros at its end.
    sequence = np.random.SeedSequence([*numbers, len(numbers)])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def image_seeds(images: Iterable[int | str], *keys: int | str) -> list[int]:
    """One seed for each image: of its id, or of a seed that it has already, and of these keys."""
    return [derive_seed(*keys, image) for image in images]


def generators(seeds: Iterable[int]) -> list[torch.Generator]:
    """One generator on the CPU for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def normals(seeds: Iterable[int], length: int) -> torch.Tensor:
    """``length`` standard normal numbers for each seed."""
    return torch.stack([torch.randn(length, generator=one) for one in generators(seeds)])
