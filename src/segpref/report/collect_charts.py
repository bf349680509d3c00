"""Charts of a study of votes: strengths with intervals, votes by day, and what more votes bring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from segpref.preferences import Estimate
from segpref.report.chart_parts import INK, PALETTE, chart_axes, legend_above, png_of
from segpref.report.collect_more import Precision
from segpref.report.markup import in_figure
from segpref.report.page import Picture

__all__ = ["days_chart", "estimates_chart", "precision_chart"]

_MOST_RATERS = len(PALETTE)


def estimates_chart(
    title: str, label: str, found: Mapping[str, Estimate], level: float | None = None
) -> Picture:
    """Figures as points with their intervals, the highest first.

    Args:
        title: of the picture.
        label: of the axis.
        found: by name; those that are not known are left out.
        level: a dashed line to compare with.
    """
    known = sorted(
        (item for item in found.items() if item[1].known), key=lambda item: item[1].value
    )
    figure, axes = chart_axes(6.0, 0.9 + 0.34 * len(known), "x")
    for row, (_, one) in enumerate(known):
        if not math.isnan(one.low):
            axes.plot([one.low, one.high], [row, row], color=PALETTE[0], lw=2, alpha=0.6)
        axes.plot([one.value], [row], "o", color=PALETTE[0], ms=6)
    if level is not None:
        axes.axvline(level, color=INK, lw=1.2, ls="--")
    axes.set_yticks(range(len(known)), [in_figure(name) for name, _ in known])
    axes.set_ylim(-0.6, max(len(known) - 0.4, 0.6))
    axes.set_xlabel(label, color=INK, fontsize=11)
    told = "; ".join(
        f"{name} {one.value:.2f}" + f" ({one.low:.2f} to {one.high:.2f})" * (one.low == one.low)
        for name, one in reversed(known)
    )
    return Picture(png_of(figure, transparent=True), f"{title} ({label}): {told}.", title)


def days_chart(days: Mapping[str, Mapping[str, int]]) -> Picture:
    """Votes by day, a bar's parts being raters; beyond six raters the rest is one part.

    Args:
        days: by rater, votes by day.
    """
    names = sorted({day for own in days.values() for day in own})
    order = sorted(days, key=lambda rater: -sum(days[rater].values()))
    shown = order if len(order) <= _MOST_RATERS else order[: _MOST_RATERS - 1]
    parts = {rater: [days[rater].get(day, 0) for day in names] for rater in shown}
    if rest := [rater for rater in order if rater not in parts]:
        parts["others"] = [sum(days[rater].get(day, 0) for rater in rest) for day in names]
    figure, axes = chart_axes(6.0, 3.0, "y")
    bottom = np.zeros(len(names))
    for number, (rater, counts) in enumerate(parts.items()):
        axes.bar(
            range(len(names)), counts, 0.7, bottom, color=PALETTE[number], label=in_figure(rater)
        )
        bottom += counts
    step = max(1, math.ceil(len(names) / 8))
    axes.set_xticks(range(0, len(names), step), names[::step])
    axes.set_ylabel("votes", color=INK, fontsize=11)
    legend_above(figure)
    told = "; ".join(f"{name} {int(count)}" for name, count in zip(names, bottom, strict=True))
    return Picture(png_of(figure, transparent=True), f"Votes by day: {told}.", "Votes by day")


def precision_chart(found: Sequence[Precision]) -> Picture:
    """Half-widths of intervals against the number of votes, and the curves that continue them."""
    figure, axes = chart_axes(6.0, 3.4, "y")
    told = []
    for number, one in enumerate(found):
        colour = PALETTE[number % len(PALETTE)]
        axes.plot(one.votes, one.half_widths, "o", color=colour, label=in_figure(one.figure))
        curve = np.geomspace(one.votes[0], 4 * one.votes[-1], 60)
        axes.plot(curve, one.scale / np.sqrt(curve), color=colour, lw=1.6, ls="--")
        told.append(f"{one.figure} ± {one.now:.3f} with {one.votes[-1]} votes")
    axes.set_ylim(0, None)
    axes.set_xlabel("votes", color=INK, fontsize=11)
    axes.set_ylabel("half of the interval", color=INK, fontsize=11)
    legend_above(figure)
    title = "What more votes bring"
    return Picture(png_of(figure, transparent=True), f"{title}: {'; '.join(told)}.", title)
