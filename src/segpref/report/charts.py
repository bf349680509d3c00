"""Curves over epochs, readable for colour-blind readers and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float

from segpref.late import late
from segpref.report.chart_parts import INK, PALETTE, chart_axes, legend_above, line_style, png_of
from segpref.report.markup import in_figure
from segpref.report.page import Picture
from segpref.training.curves import TAIL, WINDOW

if TYPE_CHECKING:
    from matplotlib import figure as figures
    from matplotlib import ticker
    from matplotlib.axes import Axes
else:
    ticker = late("matplotlib.ticker")

__all__ = [
    "FROM_ZERO",
    "LEAST_IOU",
    "LEAST_RATIO",
    "SHARE",
    "History",
    "bands_chart",
    "column",
    "hardly_there",
    "lines_chart",
    "relative_to_start",
    "validation_chart",
    "volume_ratios",
]


_VOLUME = "volume_ratio_"

LEAST_IOU = 0.1
"""An axis of IoU spans at least as much, so that a change of the third digit looks like one."""

LEAST_RATIO = 0.4
"""The same for ratios of volumes."""

SHARE = (-0.02, 1.02)
"""Limits of an axis of shares."""

FROM_ZERO = (0.0, None)
"""Limits of an axis on which half as high is half as much."""

HARDLY_THERE = 10.0
"""A volume so many times the base's says that the base hardly has the structure, and nothing else."""

Curve: TypeAlias = Float[np.ndarray, " epoch"]
History: TypeAlias = Sequence[Mapping[str, float]]
"""Rows of ``metrics.csv``; row 0 is the start, before any update."""


def column(history: History, name: str) -> Curve:
    """A figure after epochs 1, 2, ...; NaN where an epoch does not have it."""
    return np.array([row.get(name, math.nan) for row in history[1:]], dtype=float)


def volume_ratios(history: History) -> dict[str, Curve]:
    """Predicted volume relative to the base's, per structure.

    NaN where it is at least :data:`HARDLY_THERE`: the ratio of a volume to one near 0 tells nothing.
    Structures of which that leaves nothing are not there (:func:`hardly_there`).
    """
    names = dict.fromkeys(name for row in history for name in row if name.startswith(_VOLUME))
    curves = {name.removeprefix(_VOLUME): column(history, name) for name in names}
    valid = {name: np.where(curve < HARDLY_THERE, curve, np.nan) for name, curve in curves.items()}
    return {name: one for name, one in valid.items() if not np.isnan(one).all()}


def hardly_there(history: History) -> tuple[str, ...]:
    """Structures that the base hardly predicts, or not at all, while the model does."""
    names = dict.fromkeys(name for row in history for name in row if name.startswith(_VOLUME))
    return tuple(
        name.removeprefix(_VOLUME)
        for name in names
        if (column(history, name) >= HARDLY_THERE).any()
    )


def relative_to_start(curve: Curve) -> Curve:
    """A curve divided by the mean of its first three epochs (RN-DPO, Fig. 3); NaN where that is 0."""
    start = curve[:WINDOW][~np.isnan(curve[:WINDOW])]
    scale = start.mean() if len(start) else 0.0
    return curve / scale if scale > 0 else np.full_like(curve, np.nan)


def validation_chart(
    curve: Curve, base: float | None, peak_epoch: int, tail: float | None
) -> Picture:
    """The validation curve with peak, TailAvg and the base as a dashed line.

    Args:
        curve: IoU after epochs 1, 2, ...
        base: IoU before training, or None where there is nothing to compare with.
        peak_epoch: where the curve is highest, counted from 1.
        tail: TailAvg, or None.
    """
    figure, axes = _axes(6.4, 3.5, "validation IoU")
    start = 1 if base is None else 0
    values = curve if base is None else np.concatenate([[base], curve])
    axes.plot(np.arange(start, len(curve) + 1), values, color=PALETTE[0], lw=2, marker="o", ms=3.5)
    if base is not None:
        axes.axhline(base, color=INK, lw=1.4, ls="--", label=f"base {base:.3f}")
    peak = float(curve[peak_epoch - 1])
    axes.plot(
        [peak_epoch], [peak], "*", color=PALETTE[1], ms=14, label=f"peak {peak:.3f}", zorder=4
    )
    said = [f"Validation IoU over {len(curve)} epochs"]
    said += [] if base is None else [f"the base has {base:.3f}"]
    said += [f"the highest value is {peak:.3f} after epoch {peak_epoch}"]
    if tail is not None and math.isfinite(tail):
        first = max(1, len(curve) - (TAIL + WINDOW - 2))
        axes.plot(
            [first, len(curve)], [tail, tail], color=PALETTE[2], lw=5, alpha=0.45,
            solid_capstyle="butt", label=f"TailAvg {tail:.3f}", zorder=1,
        )  # fmt: skip
        said += [f"the average of the last epochs is {tail:.3f}"]
    _honest(axes, LEAST_IOU)
    return Picture(_png(figure, axes), "; ".join(said) + ".")


def lines_chart(
    title: str,
    label: str,
    series: Mapping[str, Curve],
    level: float | None = None,
    least: float = 0.0,
    limits: tuple[float, float | None] | None = None,
) -> Picture:
    """Lines over epochs 1, 2, ...; missing values leave gaps.

    Args:
        title: of the picture.
        label: of the vertical axis.
        series: values by name.
        level: a dashed line to compare with.
        least: what the vertical axis spans at least.
        limits: of the vertical axis; what the curves need where None.
    """
    single = {name: [values] for name, values in series.items()}
    return bands_chart(title, label, single, level, least=least, limits=limits)


def bands_chart(
    title: str,
    label: str,
    series: Mapping[str, Sequence[Curve]],
    level: float | None = None,
    level_name: str = "",
    first_epoch: int = 1,
    order: Sequence[str] = (),
    least: float = 0.0,
    limits: tuple[float, float | None] | None = None,
) -> Picture:
    """Mean over seeds as a line, the range from the lowest to the highest seed as a band.

    Args:
        title: of the picture.
        label: of the vertical axis.
        series: one curve per seed, by name.
        level: a dashed line to compare with.
        level_name: what it is.
        first_epoch: of the first value.
        order: names in the order of colours, where several charts are to agree.
        least: what the vertical axis spans at least.
        limits: of the vertical axis; what the curves need where None.
    """
    figure, axes = _axes(6.0, 3.4, label)
    ends = []
    shade = min(0.18, 0.36 / max(1, len(series)))  # many bands on one another would hide the lines
    for name, curves in series.items():
        number = list(order or series).index(name)
        length = min(len(curve) for curve in curves)
        values = np.stack([curve[:length] for curve in curves])
        valid = ~np.isnan(values).all(axis=0)
        if not valid.any():
            continue
        epochs = np.arange(first_epoch, first_epoch + length)
        mean = np.full(length, np.nan)
        mean[valid] = np.nanmean(values[:, valid], axis=0)
        style = line_style(number)
        axes.plot(
            epochs, mean, **style, lw=2, label=in_figure(name),
            marker="o" if valid.sum() == 1 else None,
        )  # fmt: skip
        if len(curves) > 1:
            low, high = np.nanmin(values[:, valid], axis=0), np.nanmax(values[:, valid], axis=0)
            axes.fill_between(epochs[valid], low, high, color=style["color"], alpha=shade, lw=0)
        begin, end = mean[valid][0], mean[valid][-1]
        ends.append(f"{name} from {begin:.3g} to {end:.3g}")
    if level is not None:
        axes.axhline(level, color=INK, lw=1.2, ls="--", label=in_figure(level_name) or None)
    _honest(axes, least, limits)
    alt = f"{title} ({label}): " + "; ".join(ends) + "."
    return Picture(_png(figure, axes, len(series) > 1 or bool(level_name)), alt, title)


def _honest(
    axes: Axes, least: float = 0.0, limits: tuple[float, float | None] | None = None
) -> None:
    """Limits of the vertical axis between which little looks little; whole epochs at the other."""
    first, last = axes.get_xlim()
    if last - first < 1:  # a single epoch
        axes.set_xlim((first + last - 1) / 2, (first + last + 1) / 2)
    low, high = axes.get_ylim()
    if limits is not None:
        axes.set_ylim(limits[0], high if limits[1] is None else limits[1])
    elif high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least / 2, middle + least / 2)


def _axes(width: float, height: float, label: str) -> tuple[figures.Figure, Axes]:
    figure, axes = chart_axes(width, height, "y")
    axes.set_xlabel("epoch", color=INK, fontsize=11)
    axes.set_ylabel(label, color=INK, fontsize=11)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    return figure, axes


def _png(figure: figures.Figure, axes: Axes, legend: bool = True) -> bytes:
    if legend and axes.get_legend_handles_labels()[1]:
        legend_above(figure)
    return png_of(figure, transparent=True)
