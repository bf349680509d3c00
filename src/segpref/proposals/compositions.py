"""Composed edits (Appendix A.2, family 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segpref.checking import checked
from segpref.proposals.boundary import offset
from segpref.proposals.extent import area_scaled, biased
from segpref.proposals.proposal import ProposalContext, Proposed, stacked
from segpref.proposals.topology import clean, fill_holes

__all__ = ["CleanedDropoutMean", "CleanedExtremes", "CleanedOffset"]


@checked(weight={"least": 0})
class CleanedOffset:
    """Topology, then boundary: the largest components without holes, expanded or shrunk.

    Args:
        steps: offsets in edges of the finest voxel (proportionally more in images longer than 256
            voxels), above 0 outwards and below 0 inwards.
        weight: share of the slate.
    """

    family = "topology+offset"

    def __init__(
        self, steps: Sequence[float] = (2.0, -2.0, 1.0, -1.0, 4.0, -4.0), weight: float = 2.5
    ) -> None:
        self.steps = steps
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per step; nothing where the anchor is empty."""
        if context.empty:
            return
        cleaned = [clean(labels) for labels in context.fields]
        for step in self.steps:
            distance = step * context.step
            fields = [offset(labels, distance) for labels in cleaned]
            yield {f"offset_{context.unit}": distance}, stacked(fields)


@checked(weight={"least": 0})
class CleanedDropoutMean:
    """The mean of the dropout samples, then topology; needs :class:`MonteCarloDropout` beside it.

    Args:
        weight: share of the slate.
    """

    family = "dropout-mean+topology"

    def __init__(self, weight: float = 2.0) -> None:
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """The cleaned mean, then the mean with holes filled; nothing without a dropout mean."""
        mean = context.predictions.get("dropout-mean")
        if mean is None or not mean.any():
            return
        fields = context.fields_of(mean)
        yield {"edit": "largest-component"}, stacked([clean(labels) for labels in fields])
        yield (
            {"edit": "hole-filling"},
            stacked([fill_holes(labels, 0.5, 0.02) for labels in fields]),
        )


@checked(weight={"least": 0}, step={"least": 0}, scales={"above": 0}, bias={"above": 0})
class CleanedExtremes:
    """Strong changes of extent, then topology, which removes the fragments that they bring.

    Args:
        step: offset of the extreme shrinking and expansion, as in :class:`CleanedOffset`.
        scales: multi-label: extreme areas relative to the anchor's.
        bias: multi-class: what is added to and subtracted from the foreground's logits.
        weight: share of the slate.
    """

    family = "extreme+topology"

    def __init__(
        self,
        step: float = 5.0,
        scales: tuple[float, float] = (2.0, 0.5),
        bias: float = 3.0,
        weight: float = 1.5,
    ) -> None:
        self.step = step
        self.scales = scales
        self.bias = bias
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """Extent and offset in turn, larger then smaller; nothing where the anchor is empty."""
        if context.empty:
            return
        for sign, scale in zip((1, -1), self.scales, strict=True):
            if context.label_space.kind == "multi-class":
                extreme = context.fields_of(biased(context, None, sign * self.bias))
                yield {"bias": sign * self.bias}, stacked([clean(labels) for labels in extreme])
            else:
                scaled = [area_scaled(context, n, scale) for n in range(len(context.fields))]
                yield {"scale": scale}, stacked([clean(labels) for labels in scaled])
            distance = sign * self.step * context.step
            moved = [clean(offset(labels, distance)) for labels in context.fields]
            yield {f"offset_{context.unit}": distance}, stacked(moved)
