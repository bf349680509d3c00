"""Charts of a quality report: measured and predicted Dice of labelled images and of new masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from segpref.inference.quality.calibration import Calibration
from segpref.report.chart_parts import INK, PALETTE, chart_axes, legend_above, png_of
from segpref.report.markup import in_figure
from segpref.report.page import Picture

__all__ = ["calibration_chart", "predictions_chart"]


def calibration_chart(structure: str, known: Calibration, scores: Sequence[float]) -> Picture:
    """Labelled images as points, what is predicted as a line with its interval, new scores below.

    Args:
        structure: its name.
        known: with labels.
        scores: of the new masks; NaN are left out.
    """
    figure, axes = chart_axes(5.2, 3.4, "y")
    new = np.array([one for one in scores if not math.isnan(one)])
    seen = np.array([one for one in known.scores if not math.isnan(one)])
    every = np.concatenate([seen, new])
    line = np.linspace(every.min(), every.max(), 200) if len(every) else every
    low, high = known.interval(line)
    percent = f"{known.coverage:.0%}"
    axes.fill_between(
        line, low, high, color=PALETTE[0], alpha=0.18, lw=0, label=f"{percent} interval"
    )
    axes.plot(line, known.predicted(line), color=PALETTE[0], lw=2, label="predicted")
    axes.plot(known.scores, known.dice, "o", color=PALETTE[1], ms=4.5, label="labelled images")
    axes.plot(new, np.full(len(new), -0.05), "|", color=INK, ms=7, label="new masks", clip_on=False)
    axes.set_ylim(-0.08, 1.03)
    axes.set_xlabel("judge's score", color=INK, fontsize=11)
    axes.set_ylabel("Dice", color=INK, fontsize=11)
    legend_above(figure)
    alt = (
        f"{structure}: Dice against the judge's score of {len(seen)} labelled images, with the "
        f"predicted Dice, which rises from {_told(known.predicted(line)[:1])} to "
        f"{_told(known.predicted(line)[-1:])}, and its {percent} interval; marks below are the "
        f"scores of {len(new)} new masks."
    )
    return Picture(png_of(figure, transparent=True), alt, structure)


def predictions_chart(structures: Sequence[str], dice: Sequence[Sequence[float]]) -> Picture:
    """How many new masks have which predicted Dice.

    Args:
        structures: their names.
        dice: predicted for the masks of each; NaN are left out.
    """
    figure, axes = chart_axes(5.2, 3.4, "y")
    known = [[one for one in values if not math.isnan(one)] for values in dice]
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(known))]
    axes.hist(
        known, bins=np.linspace(0, 1, 21).tolist(), color=colours, stacked=True, rwidth=0.9,
        label=[in_figure(name) for name in structures],
    )  # fmt: skip
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("predicted Dice", color=INK, fontsize=11)
    axes.set_ylabel("masks", color=INK, fontsize=11)
    legend_above(figure)
    told = "; ".join(
        f"{name}: median {np.median(values):.2f}, lowest {min(values):.2f}"
        for name, values in zip(structures, known, strict=True)
        if values
    )
    return Picture(
        png_of(figure, transparent=True),
        f"Predicted Dice of the new masks: {told}.",
        "All new masks",
    )


def _told(values: np.ndarray) -> str:
    return f"{float(values[0]):.2f}" if len(values) else "–"
