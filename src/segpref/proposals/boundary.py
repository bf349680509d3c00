"""Signed-distance boundary offsets (Appendix A.2, family 5).

Distances are between pixel centres, in mm or, where the voxel size is unknown, in voxels. An offset
above 0 expands and one below 0 shrinks. Conflicts are resolved conservatively:

- what expands takes only background, and there only pixels to which no other structure is nearer;
- what shrinks gives to the background;
- at the interface of two structures only these two exchange pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import TypeVar

import numpy as np

from segpref.checking import checked
from segpref.proposals.labelmap import LabelMap
from segpref.proposals.proposal import ProposalContext, Proposed, Settings, crossed, stacked
from segpref.proposals.windows import grown
from segpref.types import SegprefError

__all__ = [
    "InterfaceOffset",
    "StructureOffset",
    "UniformOffset",
    "interfaces_by_contact",
    "offset",
    "offset_interface",
    "offset_structure",
]

Target = TypeVar("Target")

STEPS = (2.0, 1.0, 3.0, 4.0)
"""Offsets where none are given, in :attr:`ProposalContext.step`."""

BEYOND = 1.5
"""Random offsets reach this much further than the largest given one."""


def offset(labels: LabelMap, distance: float) -> LabelMap:
    """Moves the boundary of every structure outwards, or inwards where ``distance`` is below 0.

    ``y_i = nearest_i`` where ``d_i <= distance``, with ``d_i`` the signed distance to the nearest
    structure; shrinking keeps ``d_i < distance``.
    """
    if labels.box is None or distance == 0:
        return labels
    found = labels.distances(abs(distance))
    if distance > 0:
        return labels.pasted(found.window, found.nearest * (found.signed <= _square(distance)))
    return labels.pasted(found.window, found.labels * (found.signed < -_square(distance)))


def offset_structure(labels: LabelMap, value: int, distance: float) -> LabelMap:
    """Moves the boundary of one structure and leaves all others as they are."""
    if value not in labels.counts or distance == 0:
        return labels
    found = labels.distances(abs(distance))
    if distance > 0:
        moved = (found.nearest == value) & (found.signed <= _square(distance))
    else:
        moved = (found.labels == value) & (found.signed >= -_square(distance))
    return labels.pasted(found.window, _assigned(found.labels, moved, value if distance > 0 else 0))


def offset_interface(labels: LabelMap, first: int, second: int, distance: float) -> LabelMap:
    """Moves the interface of two values into the second, or into the first below 0.

    Every pixel of the value that yields, within ``|distance|`` of the other, changes to the other;
    0 is the background, which yields only pixels to which no other structure is nearer.
    """
    winner, loser = (first, second) if distance > 0 else (second, first)
    if loser == 0:
        return offset_structure(labels, winner, abs(distance))
    if loser not in labels.counts or (winner and winner not in labels.counts) or distance == 0:
        return labels
    found = labels.distances(abs(distance))
    moved = (found.labels == loser) & (found.outside[winner] <= _square(distance))
    return labels.pasted(found.window, _assigned(found.labels, moved, winner))


def interfaces_by_contact(labels: LabelMap) -> list[tuple[int, int]]:
    """Pairs (structure, other value) that share a face of two pixels, those with most faces first.

    The second of a pair is the lower value, so that the background always comes second.
    """
    if labels.box is None:
        return []
    crop = labels.labels[grown(labels.box, labels.labels.shape, labels.spacing)]
    faces = np.zeros(labels.values**2, np.int64)
    for axis in range(crop.ndim):
        lines = crop.swapaxes(0, axis)
        touch = np.flatnonzero(lines[1:] != lines[:-1])
        one, other = lines[1:].reshape(-1)[touch], lines[:-1].reshape(-1)[touch]
        pair = np.maximum(one, other).astype(np.int64) * labels.values + np.minimum(one, other)
        faces += np.bincount(pair, minlength=faces.size)
    order = np.argsort(-faces, kind="stable")[: np.count_nonzero(faces)]
    return [divmod(int(pair), labels.values) for pair in order]


@checked(weight={"least": 0})
class UniformOffset:
    """Expands or shrinks every structure by the same distance.

    Args:
        offsets: distances in mm (voxels where the voxel size is unknown), each outwards and
            inwards; random ones up to 1.5 times the largest follow. None: 2, 1, 3 and 4 edges of
            the finest voxel, proportionally more in images longer than 256 voxels.
        weight: share of the slate.
    """

    family = "uniform-offset"

    def __init__(self, offsets: Sequence[float] | None = None, weight: float = 3.0) -> None:
        self.offsets = _checked(offsets)
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per offset and direction; nothing where the anchor is empty."""
        if context.empty:
            return
        offsets = _offsets(context, self.offsets)
        for _, distance in _settings(context, (None,), offsets):
            fields = [offset(labels, distance) for labels in context.fields]
            yield {f"offset_{context.unit}": distance}, stacked(fields)


@checked(weight={"least": 0})
class StructureOffset:
    """Multi-class: expands or shrinks one structure at a time.

    Args:
        structures: names, such as ``[RV]``; None takes all that the anchor has.
        offsets: as in :class:`UniformOffset`.
        weight: share of the slate.
    """

    family = "structure-offset"

    def __init__(
        self,
        structures: Sequence[str] | None = None,
        offsets: Sequence[float] | None = None,
        weight: float = 3.0,
    ) -> None:
        self.structures = structures
        self.offsets = _checked(offsets)
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per structure, offset and direction; nothing for a multi-label mask."""
        if context.label_space.kind == "multi-label":
            return
        (labels,) = context.fields
        names = context.label_space.names
        values = range(1, len(names)) if self.structures is None else self._values(context)
        present = [value for value in values if value in labels.counts]
        if not present:
            return
        offsets = _offsets(context, self.offsets)
        for value, distance in _settings(context, present, offsets):
            settings: Settings = {"structure": names[value], f"offset_{context.unit}": distance}
            yield settings, stacked([offset_structure(labels, value, distance)])

    def _values(self, context: ProposalContext) -> list[int]:
        return [context.value_of(name) for name in self.structures or ()]


@checked(weight={"least": 0}, count={"least": 1})
class InterfaceOffset:
    """Multi-class: moves the interface of two classes; above 0 the first of the two grows.

    Args:
        interfaces: pairs of names, such as ``[[LV, MYO], [MYO, background]]``; None takes those
            that touch most in the anchor.
        count: how many interfaces to take where no names are given.
        offsets: as in :class:`UniformOffset`.
        weight: share of the slate.
    """

    family = "interface-offset"

    def __init__(
        self,
        interfaces: Sequence[tuple[str, str]] | None = None,
        count: int = 4,
        offsets: Sequence[float] | None = None,
        weight: float = 4.0,
    ) -> None:
        self.interfaces = interfaces
        self.count = count
        self.offsets = _checked(offsets)
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per interface, offset and direction; nothing for a multi-label mask."""
        if context.label_space.kind == "multi-label":
            return
        (labels,) = context.fields
        names = context.label_space.names
        touching = interfaces_by_contact(labels)
        if self.interfaces is None:
            pairs = touching[: self.count]
        else:
            named = [(context.value_of(one), context.value_of(two)) for one, two in self.interfaces]
            pairs = [pair for pair in named if pair in touching or pair[::-1] in touching]
        if not pairs:
            return
        offsets = _offsets(context, self.offsets)
        for (one, two), distance in _settings(context, pairs, offsets):
            settings: Settings = {
                "interface": f"{names[one]}-{names[two]}",
                f"offset_{context.unit}": distance,
            }
            yield settings, stacked([offset_interface(labels, one, two, distance)])


def _square(distance: float) -> float:
    # A whole number of voxels must not be missed by the rounding of the spacing.
    return distance * distance * (1 + 1e-5)


def _assigned(crop: np.ndarray, where: np.ndarray, value: int) -> np.ndarray:
    edited = crop.copy()
    np.copyto(edited, value, where=where)
    return edited


def _checked(offsets: Sequence[float] | None) -> Sequence[float] | None:
    if offsets is not None and (not offsets or min(offsets) <= 0):
        raise SegprefError(
            f"offsets are distances above 0, each used outwards and inwards, not {list(offsets)}"
        )
    return offsets


def _offsets(context: ProposalContext, offsets: Sequence[float] | None) -> Sequence[float]:
    return [step * context.step for step in STEPS] if offsets is None else offsets


def _settings(
    context: ProposalContext, targets: Iterable[Target], offsets: Sequence[float]
) -> Iterator[tuple[Target, float]]:
    targets = tuple(targets)
    furthest = BEYOND * max(offsets)
    random = (
        (
            targets[context.rng.integers(len(targets))],
            float(context.rng.uniform(-furthest, furthest)),
        )
        for _ in repeat(None)
    )
    for target, distance in chain(crossed(targets, offsets), random):
        # A slate often has room for the first offset only, and a short reach is measured faster.
        reach = offsets[0] if abs(distance) <= offsets[0] else furthest
        for labels in context.fields:
            labels.distances(reach)
        yield target, distance
