"""One field of a mask, with what the edits ask about it computed once and on crops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cc3d
import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

__all__ = ["Components", "Distances", "Holes", "LabelMap", "Window"]

Window = tuple[slice, ...]
"""A crop of the image: one slice per spatial axis."""


@dataclass(frozen=True, slots=True)
class Components:
    """Connected components of every foreground value, diagonal neighbours included.

    Args:
        window: the crop that they were found on.
        ids: component of each pixel, 0 in the background.
        sizes: pixels per component; entry 0 counts the background.
        owners: foreground value of each component; entry 0 is 0.
    """

    window: Window
    ids: np.ndarray
    sizes: np.ndarray
    owners: UInt8[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Holes:
    """Background components that one structure encloses (no diagonal steps out of a hole).

    Args:
        window: the crop that they were found on.
        ids: background component of each pixel, 0 in the foreground.
        sizes: pixels per hole, 0 for background that is none.
        owners: value of the structure that encloses each, 0 where none does. Of nested structures
            it is the innermost, the one that covers least once its own holes are closed.
    """

    window: Window
    ids: np.ndarray
    sizes: np.ndarray
    owners: UInt8[np.ndarray, " n"]


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


class LabelMap:
    """One field of a mask; never changed, so that everything about it can be remembered.

    Args:
        labels: uint8 ``[*space]``.
        values: number of values, background included; 2 for a binary structure.
        spacing: size of a pixel per axis.
    """

    def __init__(
        self, labels: UInt8[np.ndarray, "*space"], values: int, spacing: tuple[float, ...]
    ) -> None:
        self.labels = labels
        self.values = values
        self.spacing = spacing
        self._distances: tuple[float, Distances] | None = None

    @cached_property
    def box(self) -> Window | None:
        """Bounding box of the foreground, or None where there is none."""
        box = []
        for axis in range(self.labels.ndim):
            others = tuple(other for other in range(self.labels.ndim) if other != axis)
            occupied = np.flatnonzero(self.labels.any(axis=others))
            if not len(occupied):
                return None
            box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
        return tuple(box)

    @cached_property
    def boxes(self) -> Mapping[int, Window]:
        """Bounding box of every foreground value that occurs."""
        if self.box is None:
            return {}
        if self.values == 2:
            return {1: self.box}
        found = ndimage.find_objects(self.labels[self.box])
        return {
            value: tuple(
                slice(outer.start + inner.start, outer.start + inner.stop)
                for outer, inner in zip(self.box, box, strict=True)
            )
            for value, box in enumerate(found, start=1)
            if box is not None
        }

    @cached_property
    def counts(self) -> Mapping[int, int]:
        """Pixels of every foreground value that occurs."""
        return {
            value: int(np.count_nonzero(self.labels[box] == value))
            for value, box in self.boxes.items()
        }

    def grown(self, box: Window, reach: float) -> Window:
        """A box with everything within ``reach`` of it, at least one pixel, inside the image."""
        return tuple(
            slice(max(0, side.start - steps), min(length, side.stop + steps))
            for side, length, steps in zip(
                box,
                self.labels.shape,
                (max(1, math.ceil(reach / size)) for size in self.spacing),
                strict=True,
            )
        )

    def pasted(self, window: Window, crop: UInt8[np.ndarray, "*space"]) -> LabelMap:
        """A copy with other values in the window."""
        labels = self.labels.copy()
        labels[window] = crop
        return LabelMap(labels, self.values, self.spacing)

    @cached_property
    def components(self) -> Components:
        """Connected components of every foreground value."""
        window = self._box_or_nothing
        crop = np.ascontiguousarray(self.labels[window])
        ids, count = _connected(crop, diagonal=True)
        owners = np.zeros(count + 1, np.uint8)
        if self.values == 2:
            owners[1:] = 1
        else:
            owners[ids.reshape(-1)] = crop.reshape(-1)
        return Components(window, ids, np.bincount(ids.reshape(-1), minlength=count + 1), owners)

    @cached_property
    def holes(self) -> Holes:
        """Background components that one structure encloses."""
        window = self.grown(self.box, 0.0) if self.box else self._box_or_nothing
        crop = np.ascontiguousarray(self.labels[window])
        ids, count = _connected(crop == 0, diagonal=False)
        sizes = np.zeros(count + 1, np.int64)
        owners = np.zeros(count + 1, np.uint8)
        enclosed = _enclosed(ids, count)
        if not len(enclosed):
            return Holes(window, ids, sizes, owners)
        sizes[enclosed] = np.bincount(ids.reshape(-1), minlength=count + 1)[enclosed]
        if self.values == 2:
            owners[enclosed] = 1
            return Holes(window, ids, sizes, owners)
        # A background component lies wholly inside a structure's closed outline or wholly outside,
        # so one pixel of it tells. Large outlines first: what is nested in them has the last word.
        some_pixel = np.zeros(count + 1, np.int64)
        some_pixel[ids.reshape(-1)] = np.arange(ids.size)
        outlines = []
        for value, own in self.counts.items():
            parts, number = _connected(crop != value, diagonal=False)
            inner = _enclosed(parts, number)
            inside = np.zeros(number + 1, np.bool_)
            inside[inner] = True
            covers = own + int(np.bincount(parts.reshape(-1), minlength=number + 1)[inner].sum())
            outlines.append((covers, value, inside[parts.reshape(-1)[some_pixel[enclosed]]]))
        for _, value, inside in sorted(outlines, key=lambda outline: -outline[0]):
            owners[enclosed[inside]] = value
        return Holes(window, ids, sizes, owners)

    def distances(self, reach: float) -> Distances:
        """Squared distances, exact up to ``reach``; remembered for the largest reach asked for."""
        if self._distances is None or self._distances[0] < reach:
            self._distances = (reach, self._measure(reach))
        return self._distances[1]

    def _measure(self, reach: float) -> Distances:
        window = self.grown(self.box, reach) if self.box else self._box_or_nothing
        labels = np.ascontiguousarray(self.labels[window])
        signed = np.full(labels.shape, np.inf, np.float32)
        depth = signed.copy()
        nearest = np.zeros(labels.shape, np.uint8)
        outside = {}
        # Distances to a structure are needed around it only, and those to the background in the
        # foreground: there, a ring of one pixel stands for all that lies further out.
        nearby = {value: self.grown(box, reach) for value, box in self.boxes.items()}
        if self.box:
            nearby[0] = self.grown(self.box, 0.0)
        for value, region in nearby.items():
            near = _inside(region, window)
            distance = np.full(labels.shape, np.inf, np.float32)
            distance[near] = _squared_distances(labels[near] == value, self.spacing, reach)
            outside[value] = distance
            np.minimum(depth, distance, out=depth, where=labels != value)
            if value:
                closer = distance < signed
                np.copyto(signed, distance, where=closer)
                np.copyto(nearest, value, where=closer)
        np.negative(depth, out=signed, where=labels > 0)
        return Distances(window, labels, nearest, signed, outside)

    @property
    def _box_or_nothing(self) -> Window:
        return self.box or tuple(slice(0, 0) for _ in self.spacing)


def _inside(window: Window, outer: Window) -> Window:
    return tuple(
        slice(side.start - whole.start, side.stop - whole.start)
        for side, whole in zip(window, outer, strict=True)
    )


def _squared_distances(
    to: np.ndarray, spacing: tuple[float, ...], reach: float
) -> Float32[np.ndarray, "*space"]:
    """Squared distance to the true pixels, exact up to ``reach``, at least as large beyond.

    Lower envelopes of parabolas axis by axis, over the few shifts within reach: offsets are short,
    and a whole distance transform costs two to three times as much.
    """
    distance = np.where(to, np.float32(0), np.float32(np.inf))
    for axis, size in enumerate(spacing):
        lines = np.moveaxis(distance, axis, 0)
        lowest = lines.copy()
        for shift in range(1, min(len(lines) - 1, math.floor(reach / size + 1e-5)) + 1):
            parabola = lines + np.float32((shift * size) ** 2)
            np.minimum(lowest[shift:], parabola[:-shift], out=lowest[shift:])
            np.minimum(lowest[:-shift], parabola[shift:], out=lowest[:-shift])
        lines[...] = lowest
    return distance


def _connected(image: np.ndarray, diagonal: bool) -> tuple[np.ndarray, int]:
    if not image.size:
        return np.zeros(image.shape, np.uint16), 0
    flat, solid = (8, 26) if diagonal else (4, 6)
    ids, count = cc3d.connected_components(
        image, connectivity=flat if image.ndim == 2 else solid, return_N=True
    )
    return ids, int(count)


def _enclosed(ids: np.ndarray, count: int) -> np.ndarray:
    """Components that do not reach the border; an axis of one pixel has no border."""
    inner = np.ones(count + 1, np.bool_)
    inner[0] = False
    for axis, length in enumerate(ids.shape):
        if length > 1:
            inner[np.take(ids, (0, -1), axis=axis).reshape(-1)] = False
    return np.flatnonzero(inner)
