"""Targets from a teacher's logits, and their weights."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.proposals import LabelMap
from segpref.proposals.topology import keep_components
from segpref.runtime import fetched, moved
from segpref.types import IGNORE, LabelSpace

__all__ = ["confident_labels", "largest_components", "probabilities", "ramp_up"]


def probabilities(
    logits: Float[Tensor, "B C *space"], label_space: LabelSpace
) -> Float[Tensor, "B C *space"]:
    """Softmax over the classes, or a sigmoid per structure."""
    return logits.softmax(1) if label_space.kind == "multi-class" else logits.sigmoid()


def confident_labels(
    logits: Float[Tensor, "B C *space"], label_space: LabelSpace, threshold: float
) -> UInt8[Tensor, "B field *space"]:
    """The most likely mask where its probability reaches the threshold, elsewhere IGNORE.

    The probability is that of the most likely class, or ``max(p, 1 - p)`` per structure
    (FixMatch, Eq. 4).
    """
    likely = probabilities(logits, label_space)
    if label_space.kind == "multi-class":
        sure = likely.amax(1, keepdim=True)
    else:
        sure = torch.maximum(likely, 1 - likely)
    return label_space.decode(logits).masked_fill(sure < threshold, IGNORE)


def largest_components(
    masks: UInt8[Tensor, "B field *space"], label_space: LabelSpace
) -> UInt8[Tensor, "B field *space"]:
    """Every structure with its largest component only; the rest becomes background (BCP, Sec. 3.2)."""
    fields = fetched([masks])[0].reshape(-1, *masks.shape[2:])
    unit = (1.0,) * (masks.ndim - 2)
    kept = [keep_components(LabelMap(field, label_space.values, unit)).labels for field in fields]
    return moved(torch.from_numpy(np.stack(kept).reshape(masks.shape)), masks.device)


def ramp_up(progress: float, length: float) -> float:
    """``exp(-5 (1 - min(progress / length, 1))^2)``; 1 throughout where the length is 0.

    Args:
        progress: share of the training that is done.
        length: share of the training after which the weight is whole.
    """
    if length <= 0:
        return 1.0
    return math.exp(-5 * (1 - min(progress / length, 1.0)) ** 2)
