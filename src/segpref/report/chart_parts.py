"""What charts have in common: colours, axes, a legend that fits, and the way to a PNG."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any, Literal

from segpref.late import late

if TYPE_CHECKING:
    from matplotlib import figure as figures
    from matplotlib.axes import Axes
else:
    figures = late("matplotlib.figure")

__all__ = ["INK", "PALETTE", "chart_axes", "legend_above", "line_style", "png_of"]

PALETTE = ("#1F83C4", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""After Okabe and Ito; colours that stand out from white and from black."""

INK = "#808892"
"""Readable on white and on black, for the page may be either: pictures have no ground of their own."""

_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

_LAYOUTS = ((3, 1000), (2, 1000), (1, 1000), (1, 60), (1, 45), (1, 30), (1, 20))
"""Columns of a legend, and characters of its lines: the first that fits is taken."""

_TWO_LINES = 0.5
"""Inches of the legend that a chart's height allows for."""


def chart_axes(
    width: float, height: float, grid: Literal["x", "y"] | None = None
) -> tuple[figures.Figure, Axes]:
    """A figure of so many inches with one pair of axes."""
    figure = figures.Figure((width, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.tick_params(colors=INK, labelsize=10.5, length=0)
    if grid is not None:
        axes.grid(True, axis=grid, color=INK, alpha=0.25, lw=0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK)
    return figure, axes


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of a chart's so many-th line, from 0; no two of twelve are alike."""
    return {"color": PALETTE[number % len(PALETTE)], "ls": _DASHES[number % len(_DASHES)]}


def legend_above(figure: figures.Figure) -> None:
    """A legend above the axes: in up to three columns, fewer where names are long.

    Names that are too long for one column are broken. The figure grows by the lines that the legend
    has beyond two.
    """
    handles, names = figure.axes[0].get_legend_handles_labels()
    for columns, length in _LAYOUTS:
        for earlier in figure.legends:
            earlier.remove()
        told = [textwrap.fill(name, length) for name in names]
        legend = figure.legend(
            handles, told, loc="outside upper left", ncols=columns, frameon=False, fontsize=10.5,
            labelcolor=INK, handlelength=2.2, columnspacing=1.4,
        )  # fmt: skip
        size = legend.get_window_extent()
        if size.width <= figure.bbox.width:
            break
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + max(0.0, size.height / figure.dpi - _TWO_LINES))


def png_of(figure: figures.Figure, transparent: bool = False) -> bytes:
    """A figure as a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", transparent=transparent)
    return file.getvalue()
