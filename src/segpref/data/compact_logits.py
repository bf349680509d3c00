"""Logits kept in fewer bits, with a bound on what that changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float

from segpref.types import SegprefError, Sliceable

__all__ = ["LogitFormat", "largest_error", "packed_logits", "unpacked_logits"]

LogitFormat = Literal["float32", "float16", "uint8"]

Packed = Mapping[str, np.ndarray | Sliceable]


def packed_logits(
    logits: Float[np.ndarray, "item C *space"], kind: LogitFormat
) -> dict[str, np.ndarray]:
    """Logits as they are kept.

    ``float16`` rounds each to 11 significant bits. ``uint8`` divides the range of every channel of
    every item into 255 steps and rounds to the nearest: ``z ~ low + step * code``.

    Raises:
        SegprefError: logits that are not finite, or too large for ``float16`` (65,504).
    """
    if kind == "float32":
        return {"logits": logits}
    if not np.isfinite(logits).all() or (kind == "float16" and np.abs(logits).max() > _HALF_MAX):
        raise SegprefError(
            f"the base's logits are too large, or not finite, for {kind}: set reference_logits to "
            "float32 or recomputed"
        )
    if kind == "float16":
        return {"logits": logits.astype(np.float16)}
    space = tuple(range(2, logits.ndim))
    low = logits.min(axis=space, keepdims=True).astype(np.float32)
    step = ((logits.max(axis=space, keepdims=True) - low) / 255).astype(np.float32)
    # A channel that is the same everywhere has no steps.
    code = np.rint((logits - low) / np.where(step > 0, step, 1))
    return {"logits": np.clip(code, 0, 255).astype(np.uint8), "low": low, "step": step}


def unpacked_logits(arrays: Packed, item: int, kind: LogitFormat) -> Float[np.ndarray, "C *space"]:
    """Logits of one item, float32."""
    kept: np.ndarray = np.asarray(arrays["logits"][item])
    if kind != "uint8":
        return kept.astype(np.float32, copy=False)
    found: np.ndarray = arrays["low"][item] + arrays["step"][item] * kept.astype(np.float32)
    return found


def largest_error(logits: Float[np.ndarray, "item C *space"], kind: LogitFormat) -> float:
    """Bound ``e`` on how far off any logit comes back; a margin is off by ``2 e`` at most.

    A log-ratio ``d_i`` is a difference of two logits of pixel i (one logit where structures are
    independent), so it is off by 2 e at most, and so is the log-likelihood of a pixel, for log-softmax
    changes by at most twice what its logits change. A reduction divides the sum over R by at least
    \\|R\\| (``region`` by \\|R\\|, ``image`` by \\|Omega\\|, ``power`` by a value between), so the
    margin is off by at most what its worst pixel is.

    ``float16``: half a unit in the last place, ``2^-11 |z|``, or ``2^-25`` near 0. ``uint8``: half a
    step, ``(max - min) / 510``, of the channel with the widest range. Both besides the rounding of
    float32 arithmetic, ``2^-21`` of the largest logit. ``float32``: 0.
    """
    if kind == "float32":
        return 0.0
    largest = float(np.abs(logits).max())
    if kind == "float16":
        return max(2.0**-11 * largest, 2.0**-25)
    space = tuple(range(2, logits.ndim))
    width = float((logits.max(axis=space).astype(np.float64) - logits.min(axis=space)).max())
    return width / 510 + 2.0**-21 * largest


_HALF_MAX = float(np.finfo(np.float16).max)
