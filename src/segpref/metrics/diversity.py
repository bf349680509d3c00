"""How much the candidates of an image differ among themselves (MAPO, Sec. 4.4 and Fig. 3)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from segpref.metrics.overlap import Overlap, dice
from segpref.types import IGNORE, LabelSpace, SegprefError

__all__ = ["pairwise_dice", "pixel_variance"]


def pairwise_dice(
    masks: UInt8[np.ndarray, "K field *space"], label_space: LabelSpace
) -> Float[np.ndarray, " structure"]:
    """Mean Dice of all pairs of distinct candidates, per structure: 1 where all are equal.

    ``2 / (K (K - 1)) sum_{j < k} Dice(y_j, y_k)``. Two empty masks have a Dice of 1; a structure that
    no candidate holds is NaN, for nothing differs there. Pixels that either of a pair ignores are
    left out, so the order of the candidates does not matter.

    Raises:
        SegprefError: there is no pair.
    """
    if len(masks) < 2:
        raise SegprefError(f"pairwise Dice needs at least 2 candidates, not {len(masks)}")
    # A bit per pixel: the binary masks of all candidates at once need much room.
    packed = np.stack([_packed(label_space.structure_masks(mask)) for mask in masks])
    total = np.zeros(len(label_space.structures))
    held = np.zeros(len(label_space.structures), bool)
    known = [_packed(mask != IGNORE) for mask in masks]
    for number in range(1, len(masks)):
        own = packed[number]
        counts = Overlap(
            np.array([_ones(other & own) for other in packed[:number]]),
            np.array([_ones(other & known[number]) for other in packed[:number]]),
            np.array([_ones(own & told) for told in known[:number]]),
        )
        total += dice(counts).sum(axis=0)
        held |= ((counts.true > 0) | (counts.predicted > 0)).any(axis=0)
    return np.where(held, total / (len(masks) * (len(masks) - 1) / 2), np.nan)


def pixel_variance(
    masks: UInt8[np.ndarray, "K field *space"], label_space: LabelSpace
) -> Float[np.ndarray, "structure *space"]:
    """Variance over the candidates of each pixel's membership of each structure (Fig. 3).

    ``p (1 - p)`` with p the share of candidates that hold the pixel, among those that do not ignore it:
    0 where all agree or ignore it, at most 1/4.
    The paper does not say whether it takes masks or probabilities; masks are what all strategies
    have in common (thresholds change no probability).
    """
    held = sum(label_space.structure_masks(mask).astype(np.uint32) for mask in masks)
    known = sum((mask != IGNORE).astype(np.uint32) for mask in masks)
    share = np.asarray(held) / np.maximum(known, 1)
    return np.asarray(share * (1 - share))


def _packed(parts: Bool[np.ndarray, "part *space"]) -> UInt8[np.ndarray, "part byte"]:
    return np.packbits(parts.reshape(len(parts), -1), axis=1)


def _ones(packed: UInt8[np.ndarray, "*part byte"]) -> Int64[np.ndarray, "*part"]:
    return np.asarray(np.bitwise_count(packed).sum(axis=-1, dtype=np.int64))
