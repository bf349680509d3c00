"""Controlled extent and class bias (Appendix A.2, family 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from segpref.checking import checked
from segpref.proposals.labelmap import LabelMap
from segpref.proposals.proposal import ProposalContext, Proposed, crossed, stacked
from segpref.types import SegprefError

__all__ = ["AreaQuantile", "LogitBias", "area_scaled", "biased"]


def area_scaled(context: ProposalContext, output: int, scale: float) -> LabelMap:
    """The most confident pixels of a binary structure, ``scale`` times as many as the anchor's.

    ``y_i = [z_i >= t]`` with ``t`` the n-th largest logit, ``n = round(scale x anchor pixels)`` and
    at least 1; more than n pixels only where logits equal ``t``.

    Args:
        context: of a multi-label mask.
        output: number of the structure. Where the anchor has none of it, none is returned.
        scale: new area relative to the old one.
    """
    labels, logit = context.fields[output], context.logits[output]
    count = labels.counts.get(1, 0)
    if count == 0:
        return labels
    target = min(max(1, round(scale * count)), logit.size)
    mask = logit >= context.nth_highest(output, target)
    return LabelMap(mask.view(np.uint8), labels.values, labels.spacing)


def biased(
    context: ProposalContext, value: int | None, bias: float
) -> UInt8[np.ndarray, "1 *space"]:
    """The label map after ``bias`` is added to one class's logit (None: to all but background's).

    ``y_i = argmax_c (z_ic + bias [c = value])``, of equal ones the lowest class, as in a decoded mask.
    """
    lead, label, rival = context.contest(value)
    ahead = lead > -bias
    if value is not None:
        ahead |= (lead == -bias) & (rival > value)
    wins = ahead.view(np.uint8)
    # A masked sum instead of np.where, which is five times slower on bytes; it wraps and returns.
    change = np.subtract(label, rival, dtype=np.uint8)
    return np.add(np.multiply(change, wins), rival, dtype=np.uint8)[np.newaxis]


@checked(weight={"least": 0})
class AreaQuantile:
    """Multi-label: scales the area of every structure and keeps the order of confidence.

    Args:
        scales: areas relative to the anchor's; random ones between the extremes follow.
        weight: share of the slate.
    """

    family = "area-quantile"

    def __init__(
        self,
        scales: Sequence[float] = (0.8, 1.25, 0.9, 1.1, 0.65, 1.5, 0.5, 2.0),
        weight: float = 6.0,
    ) -> None:
        if not scales or min(scales) <= 0:
            raise SegprefError(f"AreaQuantile needs scales above 0, not {list(scales)}")
        self.scales = scales
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per scale; nothing for a multi-class label map or an empty anchor."""
        if context.label_space.kind == "multi-class" or context.empty:
            return
        for scale in self._all_scales(context.rng):
            outputs = range(len(context.fields))
            yield {"scale": scale}, stacked([area_scaled(context, n, scale) for n in outputs])

    def _all_scales(self, rng: np.random.Generator) -> Iterator[float]:
        yield from self.scales
        low, high = np.log(min(self.scales)), np.log(max(self.scales))
        while True:
            yield float(np.exp(rng.uniform(low, high)))


@checked(weight={"least": 0})
class LogitBias:
    """Multi-class: favours or disfavours the foreground, or one class against the rest.

    Args:
        biases: what is added to the logits, and subtracted; random ones up to the largest follow.
        weight: share of the slate.
    """

    family = "logit-bias"

    def __init__(self, biases: Sequence[float] = (1.0, 2.0, 0.5, 4.0), weight: float = 6.0) -> None:
        if not biases or min(biases) <= 0:
            raise SegprefError(f"LogitBias needs biases above 0, not {list(biases)}")
        self.biases = biases
        self.weight = weight

    def __call__(self, context: ProposalContext) -> Iterator[Proposed]:
        """One candidate per target, bias and sign; nothing for a multi-label mask."""
        if context.label_space.kind == "multi-label":
            return
        names = context.label_space.names
        targets = (None, *range(1, len(names)))
        for value, bias in self._all_settings(targets, context.rng):
            name = "foreground" if value is None else names[value]
            yield {"structure": name, "bias": bias}, biased(context, value, bias)

    def _all_settings(
        self, targets: Sequence[int | None], rng: np.random.Generator
    ) -> Iterator[tuple[int | None, float]]:
        yield from crossed(targets, self.biases)
        while True:
            largest = max(self.biases)
            yield targets[int(rng.integers(len(targets)))], float(rng.uniform(-largest, largest))
