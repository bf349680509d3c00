"""One field of a mask; components, holes and distances are computed once and on crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from segpref.late import late
from segpref.proposals.distances import Distances, distances
from segpref.proposals.windows import Window, absolute, bounding_box

__all__ = ["Components", "Holes", "LabelMap", "Runs"]

cc3d = late("cc3d")

MORE = 1.25
"""Whoever asks for more than the first reach asks again, mostly, for a little more than that."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Neighbours of equal value along the last axis: many times fewer than pixels.

    Args:
        first: place of each run's first pixel in the flattened crop.
        lengths: pixels per run.
        values: the value of each.
    """

    first: Int64[np.ndarray, " runs"]
    lengths: Int64[np.ndarray, " runs"]
    values: UInt8[np.ndarray, " runs"]

    def pixels(self, group: np.ndarray, count: int) -> Int64[np.ndarray, " count"]:
        """Pixels per group of runs, from the group of each."""
        return np.bincount(group, self.lengths, minlength=count).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Components:
    """Connected components of every foreground value, diagonal neighbours included.

    Args:
        ids: component of each run, 0 in the background.
        sizes: pixels per component; entry 0 counts the background.
        owners: foreground value of each component; entry 0 is 0.
    """

    ids: Integer[np.ndarray, " runs"]
    sizes: Int64[np.ndarray, " n"]
    owners: UInt8[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Holes:
    """Background components that one structure encloses (no diagonal steps out of a hole).

    Args:
        ids: background component of each run, 0 in the foreground.
        sizes: pixels per hole, 0 for background that is none.
        owners: value of the structure that encloses each, 0 where none does. Of nested structures
            it is the innermost, the one that covers least once its own holes are closed.
    """

    ids: Integer[np.ndarray, " runs"]
    sizes: Int64[np.ndarray, " n"]
    owners: UInt8[np.ndarray, " n"]


class LabelMap:
    """One field of a mask; never changed, so that everything about it can be remembered.

    Args:
        labels: uint8 ``[*space]``.
        values: number of values, background included; 2 for a binary structure.
        spacing: size of a pixel per axis.
        within: a window that holds all foreground, where one is known.
        parts: number of connected components, where it is known.
    """

    def __init__(
        self,
        labels: UInt8[np.ndarray, "*space"],
        values: int,
        spacing: tuple[float, ...],
        within: Window | None = None,
        parts: int | None = None,
    ) -> None:
        self.labels = labels
        self.values = values
        self.spacing = spacing
        self.kept: dict[tuple[float, int | None], LabelMap] = {}
        """What :func:`~segpref.proposals.topology.keep_components` made of it, by its settings."""
        self._within = within or tuple(slice(0, length) for length in labels.shape)
        self._parts = parts
        self._distances: tuple[float, Distances] | None = None

    @cached_property
    def box(self) -> Window | None:
        """Bounding box of the foreground, or None where there is none."""
        inside = self.labels[self._within]
        # Truth values are looked through in two thirds of the time.
        found = bounding_box(inside.view(np.bool_) if self.values == 2 else inside)
        return found and absolute(found, self._within)

    @cached_property
    def boxes(self) -> Mapping[int, Window]:
        """Bounding box of every foreground value that occurs."""
        if self.box is None:
            return {}
        if self.values == 2:
            return {1: self.box}
        crop = self.labels[self.box]
        found = {value: bounding_box(crop == value) for value in self.counts}
        return {value: absolute(box, self.box) for value, box in found.items() if box}

    @cached_property
    def counts(self) -> Mapping[int, int]:
        """Pixels of every foreground value that occurs."""
        if self.values == 2:
            return {1: int(np.count_nonzero(self.crop))} if self.box else {}
        counts = self.runs.pixels(self.runs.values, self.values)
        return {value: int(count) for value, count in enumerate(counts) if value and count}

    @cached_property
    def crop(self) -> UInt8[np.ndarray, "*space"]:
        """The box in a frame of background, also where the image ends; nothing without a box.

        So all that no structure encloses is one component of the background. There is no frame
        along an axis of one pixel, which has no border.
        """
        if self.box is None:
            return np.zeros((0,) * self.labels.ndim, np.uint8)
        shape = (
            side.stop - side.start + (2 if length > 1 else 0)
            for side, length in zip(self.box, self.labels.shape, strict=True)
        )
        crop = np.zeros(tuple(shape), np.uint8)
        crop[self._in_frame] = self.labels[self.box]
        return crop

    @property
    def _in_frame(self) -> Window:
        return tuple(slice(1, -1) if length > 1 else slice(None) for length in self.labels.shape)

    @cached_property
    def runs(self) -> Runs:
        """Runs of equal values in the crop."""
        crop = self.crop
        # One more than there are pixels: where the last run ends, the next would begin.
        begins = np.ones(crop.size + 1, np.bool_)
        inside_rows = begins[:-1].reshape(crop.shape)[..., 1:]
        np.not_equal(crop[..., 1:], crop[..., :-1], out=inside_rows)
        places = np.flatnonzero(begins)
        first = places[:-1]
        return Runs(first, places[1:] - first, crop.reshape(-1)[first])

    def pasted(
        self, window: Window, crop: UInt8[np.ndarray, "*space"], parts: int | None = None
    ) -> LabelMap:
        """A copy with other values in a window that holds all foreground, so many components in all."""
        labels = self.labels.copy()
        labels[window] = crop
        return LabelMap(labels, self.values, self.spacing, window, parts)

    def painted(self, values: UInt8[np.ndarray, " runs"], parts: int | None = None) -> LabelMap:
        """A copy with another value for every run, so many components in all."""
        if self.box is None:
            return self
        crop = np.repeat(values, self.runs.lengths).reshape(self.crop.shape)
        return self.pasted(self.box, crop[self._in_frame], parts)

    @cached_property
    def _components(self) -> tuple[np.ndarray, int]:
        """The component of each pixel of the crop, from 1, and how many there are."""
        # Not as truth values: for these cc3d 4.1 errs now and then where diagonal neighbours count.
        return _connected(self.crop, diagonal=True)

    @property
    def parts(self) -> int:
        """How many connected components there are, of all foreground values."""
        return self._components[1] if self._parts is None else self._parts

    @cached_property
    def components(self) -> Components:
        """Connected components of every foreground value."""
        pixels, count = self._components
        ids = pixels.reshape(-1)[self.runs.first]
        owners = np.zeros(count + 1, np.uint8)
        owners[ids] = self.runs.values
        return Components(ids, self.runs.pixels(ids, count + 1), owners)

    @cached_property
    def solid(self) -> bool:
        """Whether it certainly has no hole, which is told in 2D and of a binary structure alone.

        A structure has as many holes as it has components more than its Euler characteristic, pixels
        being closed squares: the components are known, mostly, and the other is counted in a tenth of
        the time that finding holes takes.
        """
        if self.values > 2 or self.labels.ndim != 2 or 1 in self.labels.shape:
            return False
        return self.parts == _euler_characteristic(self.crop)

    @cached_property
    def holes(self) -> Holes:
        """Background components that one structure encloses."""
        pixels, count = _connected(self.crop == 0, diagonal=False)
        ids = pixels.reshape(-1)[self.runs.first]
        enclosed = _enclosed(pixels, count)
        sizes = np.where(enclosed, self.runs.pixels(ids, count + 1), 0)
        owners = np.zeros(count + 1, np.uint8)
        # It takes four pixels to enclose anything; smaller structures do it together or not at all.
        values = [value for value, count in self.counts.items() if count >= 4]
        if len(self.counts) == 1:
            owners[enclosed] = list(self.counts)
        elif values and enclosed.any():
            # A background component lies wholly inside a structure's closed outline or wholly
            # outside, so one run of it tells. Large outlines first: what is nested in them has the
            # last word.
            some_run = np.zeros(count + 1, np.int64)
            some_run[ids] = np.arange(len(ids))
            closed = self._closed(values)
            covered = [
                self.counts[v] + self.runs.lengths @ c for v, c in zip(values, closed, strict=True)
            ]
            for place in sorted(range(len(values)), key=lambda place: -covered[place]):
                owners[enclosed & closed[place][some_run]] = values[place]
        return Holes(ids, sizes, owners)

    def _closed(self, values: Sequence[int]) -> Bool[np.ndarray, "value runs"]:
        """Which runs lie in the holes of each structure."""
        crop = self.crop
        # One call for all, with a wall between: on small crops the call itself is what takes long.
        layers = np.zeros((len(values), len(crop) + 1, *crop.shape[1:]), np.bool_)
        for layer, value in zip(layers, values, strict=True):
            np.not_equal(crop, value, out=layer[:-1])
        pixels, count = _connected(layers.reshape(-1, *crop.shape[1:]), diagonal=False)
        parts = pixels.reshape(len(values), -1)[:, : crop.size]
        inner = np.ones(count + 1, np.bool_)
        inner[0] = inner[parts[:, 0]] = inner[parts[:, -1]] = False
        return np.asarray(inner[parts[:, self.runs.first]])

    def distances(self, reach: float) -> Distances:
        """Squared distances, exact at least up to ``reach``; the furthest ones are remembered."""
        if self._distances is None or self._distances[0] < reach:
            if self._distances is not None:
                reach *= MORE
            found = distances(self.labels, self.box, self.boxes, self.spacing, reach)
            self._distances = (reach, found)
        return self._distances[1]


def _connected(image: np.ndarray, diagonal: bool) -> tuple[np.ndarray, int]:
    if not image.size:
        return np.zeros(image.shape, np.uint16), 0
    flat, solid = (8, 26) if diagonal else (4, 6)
    ids, count = cc3d.connected_components(
        image, connectivity=flat if image.ndim == 2 else solid, return_N=True
    )
    return ids, int(count)


def _euler_characteristic(mask: UInt8[np.ndarray, "height width"]) -> int:
    """Corners minus edges plus squares of all pixels that are 1; the mask has a frame of 0."""
    pixels = mask.view(np.bool_)
    edges = pixels[1:] | pixels[:-1], pixels[:, 1:] | pixels[:, :-1]
    corners = edges[0][:, 1:] | edges[0][:, :-1]
    counted = [int(np.count_nonzero(each)) for each in (corners, *edges, pixels)]
    return counted[0] - counted[1] - counted[2] + counted[3]


def _enclosed(ids: np.ndarray, count: int) -> Bool[np.ndarray, " n"]:
    """Which components do not reach the frame: all but 0 and that of the corners."""
    inner = np.ones(count + 1, np.bool_)
    flat = ids.reshape(-1)
    inner[0] = inner[flat[:1]] = inner[flat[-1:]] = False
    return inner
