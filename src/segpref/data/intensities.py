"""Intensities as the network sees them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

__all__ = ["Normalisation", "normalised"]

Normalisation = Literal["min-max", "z-score", "z-score-nonzero", "percentile", "window", "none"]


def normalised(
    image: Float[np.ndarray, "channel *space"],
    kind: Normalisation,
    window: tuple[float, float] | None,
    together: bool,
) -> Float[np.ndarray, "channel *space"]:
    """An image with its intensities clipped and scaled; a constant one becomes zeros.

    Args:
        image: as it is on disk; it is left as it is.
        kind: ``min-max`` to 0..1, ``z-score``, ``z-score-nonzero`` (of what is not zero; zeros stay),
            ``percentile`` (0.5 and 99.5 to 0..1), ``window`` (its ends to 0..1), ``none``.
        window: intensities are clipped to it first.
        together: whether the channels have their range in common; each its own otherwise.
    """
    image = image.astype(np.float32, copy=True)
    if window is not None:
        np.clip(image, *window, out=image)
    for channel in [image] if together else image:
        if kind == "none":
            continue
        if kind == "z-score-nonzero":
            _standardise(channel, channel != 0)
            continue
        if kind == "z-score":
            low, scale = channel.mean(dtype=np.float64), channel.std(dtype=np.float64)
            # Rounding leaves a trace of spread in a constant image.
            scale = scale if scale > 1e-6 * abs(low) else 0.0
        elif kind == "percentile":
            low, high = np.percentile(channel, (0.5, 99.5))
            scale = high - low
            np.clip(channel, low, high, out=channel)
        elif kind == "window":
            assert window is not None
            low, scale = window[0], window[1] - window[0]
        else:
            low, scale = channel.min(), channel.max() - channel.min()
        channel -= low
        # A constant image carries nothing; zeros say so without a division by zero.
        channel /= scale if scale > 0 else 1.0
    return image


def _standardise(channel: np.ndarray, inside: np.ndarray) -> None:
    """Mean 0 and deviation 1 of a part, in place; a part without spread becomes zeros."""
    values = channel[inside].astype(np.float64)
    if values.size:
        mean, spread = values.mean(), values.std()
        channel[inside] = (values - mean) / (spread if spread > 1e-6 * abs(mean) else 1.0)
