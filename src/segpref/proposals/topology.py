"""Topology edits: holes and components (Appendix A.2, family 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from segpref.checking import checked
from segpref.proposals.labelmap import LabelMap
from segpref.proposals.proposal import ProposalContext, Proposed, stacked

__all__ = ["HoleFilling", "LargestComponent", "clean", "fill_holes", "keep_components"]


def fill_holes(labels: LabelMap, relative: float = math.inf, cap: float = math.inf) -> LabelMap:
    """Gives the holes of every structure to it; only background changes.

    A hole is a background component (without diagonal steps) that one structure encloses. It is
    filled up to ``min(relative x pixels of the structure, cap x pixels of the image)`` pixels.

    Args:
        labels: one field. Where it is empty, it is returned as it is.
        relative: largest hole, relative to the structure.
        cap: largest hole, relative to the image.
    """
    if labels.solid or not (holes := labels.holes).owners.any():
        return labels
    limits = np.zeros(labels.values)
    for value, count in labels.counts.items():
        limits[value] = min(relative * count, cap * labels.labels.size)
    filled = np.where(holes.sizes <= limits[holes.owners], holes.owners, 0).astype(np.uint8)
    if not filled.any():
        return labels
    return labels.painted(labels.runs.values + filled[holes.ids])


def keep_components(labels: LabelMap, fraction: float = 1.0, only: int | None = None) -> LabelMap:
    """Removes small components of every structure; what is removed becomes background.

    Args:
        labels: one field. Where it is empty, it is returned as it is.
        fraction: keep what has at least this share of the structure's largest component; 1 keeps
            exactly one, the first of equal ones.
        only: the one value to treat; None treats all.
    """
    if (fraction, only) not in labels.kept:
        labels.kept[fraction, only] = _kept(labels, fraction, only)
    return labels.kept[fraction, only]


def _kept(labels: LabelMap, fraction: float, only: int | None) -> LabelMap:
    if labels.parts == len(labels.counts):
        return labels  # one of each
    components = labels.components
    keep = np.ones(len(components.sizes), np.bool_)
    for value in labels.counts if only is None else (only,):
        (own,) = np.nonzero(components.owners == value)
        sizes = components.sizes[own]
        if fraction < 1.0:
            keep[own] = sizes >= fraction * sizes.max(initial=0)
        elif len(own) > 1:
            keep[own] = False
            keep[own[np.argmax(sizes)]] = True
    if keep.all():
        return labels
    parts = int(np.count_nonzero(keep & (components.owners > 0)))
    return labels.painted(labels.runs.values * keep[components.ids], parts)


def clean(labels: LabelMap, relative: float = 0.5, cap: float = 0.02) -> LabelMap:
    """The largest component of every structure with its holes filled."""
    return fill_holes(keep_components(labels), relative, cap)


@checked(weight={"least": 0}, relative={"least": 0}, cap={"least": 0, "most": 1})
class HoleFilling:
    """Fills small holes in every structure.

    Args:
        relative: largest holes to fill, relative to the structure; one candidate each.
        cap: largest hole to fill, relative to the image.
        weight: share of the slate.
    """

    family = "hole-filling"

    def __init__(
        self, relative: Sequence[float] = (0.1, 0.5), cap: float = 0.02, weight: float = 2.0
    ) -> None:
        self.relative = relative
        self.cap = cap
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per size limit; nothing where the anchor is empty."""
        if context.empty:
            return
        for relative in self.relative:
            fields = [fill_holes(labels, relative, self.cap) for labels in context.fields]
            yield {"relative": relative}, stacked(fields)


@checked(
    weight={"least": 0},
    fractions={"least": 0, "most": 1},
    relative={"least": 0},
    cap={"least": 0, "most": 1},
)
class LargestComponent:
    """Keeps the largest component of every structure and fills its holes.

    After it come milder variants: components above a share of the largest are kept, and in a
    multi-class label map one structure at a time is cleaned.

    Args:
        fractions: what to keep besides the largest component, relative to it; 1 is nothing else.
        relative: largest hole to fill, relative to the structure.
        cap: largest hole to fill, relative to the image.
        weight: share of the slate.
    """

    family = "largest-component"

    def __init__(
        self,
        fractions: Sequence[float] = (1.0, 0.25),
        relative: float = 0.5,
        cap: float = 0.02,
        weight: float = 4.0,
    ) -> None:
        self.fractions = fractions
        self.relative = relative
        self.cap = cap
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per fraction, then one per structure; nothing where the anchor is empty."""
        if context.empty:
            return
        for fraction in self.fractions:
            kept = [keep_components(labels, fraction) for labels in context.fields]
            yield {"fraction": fraction}, self._filled(kept)
        if context.label_space.kind == "multi-class":
            (labels,) = context.fields
            for value in labels.counts:
                name = context.label_space.names[value]
                yield {"structure": name}, self._filled([keep_components(labels, only=value)])

    def _filled(self, fields: Sequence[LabelMap]) -> np.ndarray:
        return stacked([fill_holes(labels, self.relative, self.cap) for labels in fields])
