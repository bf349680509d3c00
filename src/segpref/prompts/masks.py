"""Prompts that a mask gives: its box, points in it, itself; and how prompts are perturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from segpref.late import late
from segpref.prompts.prompt import Box, Point, Prompt

__all__ = ["box_iou", "box_of", "jittered", "largest_components", "mask_logits", "points_in"]

cc3d = late("cc3d")

SURE = 6.0
"""Logit of a pixel of a mask without probabilities: a probability of 0.9975."""


def box_of(mask: Bool[np.ndarray, "H W"], margin: float = 0.0) -> Box | None:
    """The box around a mask, ``margin`` pixels wider on every side; None where the mask is empty.

    It lies on the edges of the outermost pixels and never reaches out of the image.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    height, width = mask.shape
    return (
        max(float(columns[0]) - 0.5 - margin, -0.5),
        max(float(rows[0]) - 0.5 - margin, -0.5),
        min(float(columns[-1]) + 0.5 + margin, width - 0.5),
        min(float(rows[-1]) + 0.5 + margin, height - 0.5),
    )


def points_in(
    mask: Bool[np.ndarray, "H W"], count: int, rng: np.random.Generator, label: int = 1
) -> tuple[Point, ...]:
    """``count`` different pixels of a mask; all of them where there are fewer."""
    places = np.flatnonzero(mask)
    drawn = rng.choice(places, size=min(count, len(places)), replace=False)
    width = mask.shape[1]
    return tuple((float(place % width), float(place // width), label) for place in drawn)


def mask_logits(mask: Bool[np.ndarray, "H W"]) -> np.ndarray:
    """A mask as the logits of a mask prompt: plus or minus :data:`SURE`, float32."""
    return np.where(mask, np.float32(SURE), np.float32(-SURE))


def largest_components(
    mask: Bool[np.ndarray, "H W"], count: int, least_share: float = 0.0
) -> Bool[np.ndarray, "H W"]:
    """The ``count`` largest 8-connected components of at least ``least_share`` of the image's area."""
    labels = cc3d.connected_components(mask.astype(np.uint8), connectivity=8)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    # Stable, so that of equal components the first in reading order is kept.
    ranked = np.argsort(-sizes, kind="stable")[:count]
    kept = [
        number
        for number in ranked
        if sizes[number] > 0 and sizes[number] >= least_share * mask.size
    ]
    return np.asarray(np.isin(labels, kept) & mask)


def jittered(
    prompt: Prompt,
    shape: Sequence[int],
    rng: np.random.Generator,
    shift: float = 0.1,
    points_from: Bool[np.ndarray, "H W"] | None = None,
) -> Prompt:
    """The prompt with every side of its box moved and other points.

    Each side moves by a normal number with a standard deviation of ``shift`` times the box's width
    or height, at most twice that, and stays in the image of ``shape = (H, W)``; a box always keeps
    a tenth of its size. As many points as the prompt has on the structure are drawn anew from
    ``points_from``; where it is None or empty the points stay.
    """
    box = prompt.box
    if box is not None:
        box = _moved(box, shape, rng, shift)
    points = prompt.points
    if points and points_from is not None and points_from.any():
        beside = tuple(point for point in points if point[2] == 0)
        points = points_in(points_from, len(points) - len(beside), rng) + beside
    return replace(prompt, box=box, points=points)


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0.0) * max(height, 0.0)
    return common / (_area(one) + _area(other) - common)


def _moved(box: Box, shape: Sequence[int], rng: np.random.Generator, shift: float) -> Box:
    height, width = shape
    across, down = box[2] - box[0], box[3] - box[1]
    size = np.array([across, down, across, down])
    limit = np.array([width, height, width, height]) - 0.5
    moves = np.clip(rng.standard_normal(4), -2, 2) * shift * size
    left, top, right, bottom = np.clip(np.array(box) + moves, -0.5, limit)
    if right - left < across / 10:
        left, right = box[0], box[2]
    if bottom - top < down / 10:
        top, bottom = box[1], box[3]
    return float(left), float(top), float(right), float(bottom)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
