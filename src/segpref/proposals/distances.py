"""Distance maps of a label map, computed only as far as an edit reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from segpref.proposals.windows import Window, grown, relative

__all__ = ["Distances", "distances"]


@dataclass(frozen=True, slots=True)
class Distances:
    """Squared distances between pixel centres, exact up to ``reach``.

    Args:
        window: the foreground's bounding box, grown by the reach.
        labels: the values there.
        nearest: the foreground value nearest to each pixel (its own inside the foreground, the
            lower one where two are equally near); of no meaning beyond the reach.
        signed: in the background the distance to ``nearest``; in the foreground minus the distance
            to the nearest pixel of another value.
        outside: the distance to every foreground value that occurs, and (in the foreground) to 0.
    """

    window: Window
    labels: UInt8[np.ndarray, "*space"]
    nearest: UInt8[np.ndarray, "*space"]
    signed: Float32[np.ndarray, "*space"]
    outside: Mapping[int, Float32[np.ndarray, "*space"]]


def distances(
    labels: UInt8[np.ndarray, "*space"],
    box: Window | None,
    boxes: Mapping[int, Window],
    spacing: tuple[float, ...],
    reach: float,
) -> Distances:
    """Measure everything at once.

    Args:
        labels: the whole image.
        box: bounding box of its foreground, or None: then there is nothing to measure.
        boxes: bounding box of every foreground value that occurs.
        spacing: size of a pixel per axis.
        reach: distances above it are only known to be above it.
    """
    nothing = (slice(0, 0),) * labels.ndim
    window = grown(box, labels.shape, spacing, reach) if box else nothing
    crop = np.ascontiguousarray(labels[window])
    if len(boxes) == 1:
        return _of_one(window, crop, next(iter(boxes)), spacing, reach)
    # A pixel is at distance 0 from its own value, so the second shortest leads to another value.
    shortest = np.full(crop.shape, np.inf, np.float32)
    second = shortest.copy()
    nearest = np.zeros(crop.shape, np.uint8)
    outside = {}
    # Distances to a structure are needed around it only.
    for value, own in boxes.items():
        near = relative(grown(own, labels.shape, spacing, reach), window)
        distance = _squared_distances(crop[near] == value, spacing, reach)
        outside[value] = np.full(crop.shape, np.inf, np.float32)
        outside[value][near] = distance
        closer = (distance < shortest[near]).view(np.uint8)
        # The values ascend: the larger label is the one that came closer last.
        np.maximum(nearest[near], closer * np.uint8(value), out=nearest[near])
        np.minimum(second[near], np.maximum(shortest[near], distance), out=second[near])
        np.minimum(shortest[near], distance, out=shortest[near])
    # Those to the background are needed in the foreground only, and there a ring of one pixel
    # stands for all that lies further out. In the background itself they are 0.
    depth = np.zeros(crop.shape, np.float32)
    near = relative(grown(box, labels.shape, spacing), window) if box else nothing
    depth[near] = _squared_distances(crop[near] == 0, spacing, reach)
    outside[0] = depth
    return Distances(window, crop, nearest, shortest - np.minimum(second, depth), outside)


def _of_one(
    window: Window,
    crop: UInt8[np.ndarray, "*space"],
    value: int,
    spacing: tuple[float, ...],
    reach: float,
) -> Distances:
    """The same where there is one value: on small crops calls are what takes long, so both at once."""
    inside = crop == value
    to, depth = _squared_distances(np.stack([inside, ~inside]), spacing, reach)
    nearest = np.full(crop.shape, value, np.uint8)
    return Distances(window, crop, nearest, to - depth, {value: to, 0: depth})


def _squared_distances(
    to: Bool[np.ndarray, "... *space"], spacing: tuple[float, ...], reach: float
) -> Float32[np.ndarray, "... *space"]:
    """Squared distance to the true pixels, exact up to ``reach``, at least as large beyond.

    Leading axes are masks of their own.

    Lower envelopes of parabolas axis by axis, over the few shifts within reach: offsets are short,
    and a whole distance transform costs two to three times as much.
    """
    steps = [
        min(length - 1, math.floor(reach / size + 1e-5))
        for length, size in zip(to.shape[-len(spacing) :], spacing, strict=True)
    ]
    # Spare columns take up what a shift carries over the end of a row. So along the last axis the
    # whole array is shifted at once, three times as fast as row by row.
    width = to.shape[-1]
    distance = np.full((*to.shape[:-1], width + max(0, steps[-1])), np.inf, np.float32)
    distance[..., :width][to] = 0
    first = to.ndim - len(spacing)
    for axis, (size, furthest) in enumerate(zip(spacing, steps, strict=True), start=first):
        lowest = distance.copy()
        if axis == to.ndim - 1:
            before, after = distance.reshape(-1), lowest.reshape(-1)
        else:
            before, after = distance.swapaxes(0, axis), lowest.swapaxes(0, axis)
        parabola = np.empty_like(before)
        for shift in range(1, furthest + 1):
            np.add(before, np.float32((shift * size) ** 2), out=parabola)
            np.minimum(after[shift:], parabola[:-shift], out=after[shift:])
            np.minimum(after[:-shift], parabola[shift:], out=after[:-shift])
        distance = lowest
    return distance[..., :width]
