"""Peak, tail average and drift of a validation curve (RN-DPO, Sec. 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["curve_summary", "name_of", "smoothed", "tail_average"]

WINDOW = 3
TAIL = 6


def smoothed(curve: Float[np.ndarray, " epoch"]) -> Float[np.ndarray, " position"]:
    """Moving average over three epochs, where three are there."""
    if len(curve) < WINDOW:
        return curve
    return np.convolve(curve, np.ones(WINDOW) / WINDOW, mode="valid")


def tail_average(curve: Float[np.ndarray, " epoch"]) -> float:
    """TailAvg: mean of the last six values of the smoothed validation curve."""
    return float(smoothed(curve)[-TAIL:].mean())


_NAMES = {"val_iou": "IoU", "val_votes": "agreement with held-out votes"}


def name_of(column: str) -> str:
    """What a figure that chooses checkpoints is called in a sentence."""
    return _NAMES.get(column, column)


def curve_summary(
    history: Sequence[Mapping[str, float]], chosen_by: str = "val_iou"
) -> dict[str, Any]:
    """Figures of a stage-2 curve; row 0 is the base and takes no part in peak or tail.

    ``drift`` is the maximum of the smoothed curve minus TailAvg: what was reached and lost again.

    Args:
        history: one row per epoch.
        chosen_by: the column that chooses the checkpoint; the figures begin with its name.
    """
    curve = np.array([row[chosen_by] for row in history[1:]])
    tail = tail_average(curve)
    return {
        f"{chosen_by}_base": float(history[0][chosen_by]),
        f"{chosen_by}_peak": float(curve.max()),
        "peak_epoch": int(curve.argmax()) + 1,
        f"{chosen_by}_last": float(curve[-1]),
        "tail_avg": tail,
        "drift": float(smoothed(curve).max()) - tail,
        "epochs": len(curve),
    }
