"""Figures of the study: the curve over interpolation weights, and samples beside the raters' masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from segpref.inference.samples import rated_masks, summarise
from segpref.late import late
from segpref.report.chart_parts import legend_above, line_style, png_of
from segpref.report.markup import in_figure
from segpref.report.views import plane_of
from segpref.types import Case

if TYPE_CHECKING:
    from matplotlib import figure as figures
else:
    figures = late("matplotlib.figure")

__all__ = ["contrast_picture", "interpolation_chart", "samples_picture"]

Curve = tuple[Sequence[float], Float[np.ndarray, " w"], Float[np.ndarray, " w"]]
Masks = UInt8[np.ndarray, "image N row column"]


def interpolation_chart(curves: Mapping[str, Curve]) -> bytes:
    """Average Dice against GED, one line per method, every point marked with its w."""
    figure = figures.Figure((6.0, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, (stops, dice, ged)) in enumerate(curves.items()):
        axes.plot(dice, ged, marker="o", ms=4, lw=1.8, **line_style(number), label=in_figure(name))
        for w, x, y in zip(stops, dice, ged, strict=True):
            axes.annotate(f"{w:g}", (x, y), (4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("Average Dice (higher is more accurate)")
    axes.set_ylabel("GED (lower is closer to the raters)")
    axes.set_title("The knob w: 0 reference, 1 aligned", fontsize=11)
    axes.grid(True, alpha=0.25)
    legend_above(figure)
    return png_of(figure)


def samples_picture(cases: Sequence[Case], drawn: Mapping[str, Masks]) -> bytes:
    """Each image with the mean of its raters' masks and the mean of every model's samples."""
    columns = {"raters": [rated_masks(case)[:, 0].mean(axis=0) for case in cases]}
    columns |= {name: _means(masks) for name, masks in drawn.items()}
    return _grid(cases, columns)


def contrast_picture(cases: Sequence[Case], drawn: Mapping[str, Masks]) -> bytes:
    """Each image with the mean of its samples under either description, and the difference."""
    columns = {name: _means(masks) for name, masks in drawn.items()}
    first, second = columns.values()
    columns["difference"] = [a - b for a, b in zip(first, second, strict=True)]
    return _grid(cases, columns)


def _means(masks: Masks) -> list[Float[np.ndarray, "row column"]]:
    return [summarise(one[:, None]).mean[0] for one in masks]


def _grid(
    cases: Sequence[Case], columns: Mapping[str, Sequence[Float[np.ndarray, "row column"]]]
) -> bytes:
    wide = len(columns) + 1
    figure = figures.Figure((1.5 * wide, 1.55 * len(cases) + 0.3), dpi=120, layout="constrained")
    axes = figure.subplots(len(cases), wide, squeeze=False)
    for row, case, maps in zip(axes, cases, zip(*columns.values(), strict=True), strict=True):
        row[0].imshow(plane_of(case), cmap="gray")
        for cell, values in zip(row[1:], maps, strict=True):
            signed = values.min() < 0
            cell.imshow(plane_of(case), cmap="gray", alpha=0.5)
            cell.imshow(
                values, cmap="RdBu" if signed else "inferno", vmin=-1 if signed else 0, vmax=1,
                alpha=0.8,
            )  # fmt: skip
    for cell, name in zip(axes[0], ["image", *columns], strict=True):
        cell.set_title(in_figure(name), fontsize=9)
    for cell in axes.flat:
        cell.set_xticks([])
        cell.set_yticks([])
    return png_of(figure)
