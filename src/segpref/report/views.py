"""The part of an image that a picture shows, with outlines, a tint or a heat map on it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from segpref.late import late
from segpref.types import Case, LabelSpace

if TYPE_CHECKING:
    from matplotlib import colors, patheffects
    from matplotlib import figure as figures
    from matplotlib.backends import backend_agg
else:
    backend_agg, colors = late("matplotlib.backends.backend_agg"), late("matplotlib.colors")
    figures, patheffects = late("matplotlib.figure"), late("matplotlib.patheffects")

__all__ = ["COLOURS", "TINT", "View", "plane_of", "small_png", "view_of"]

_TRUTH = "#ffffff"
TINT = "#F0E442"
COLOURS = ("#56B4E9", "#E69F00", "#00C08B", "#FF86C8", "#B9A2FF", "#FF6F3C")


@dataclass(frozen=True)
class View:
    """The part of an image that is shown: one slice, cut to where the masks are."""

    picture: Float[np.ndarray, "row column"] | Float[np.ndarray, "row column 3"]
    aspect: float
    level: int | None
    cut: tuple[slice, slice]
    limits: tuple[float, float]

    def of(self, array: np.ndarray) -> np.ndarray:
        """The same part of a mask."""
        plane = array if self.level is None else array[..., self.level].swapaxes(-1, -2)
        return plane[(..., *self.cut)]

    def draw(
        self,
        parts: Iterable[Bool[np.ndarray, "*space"]],
        true: Bool[np.ndarray, "structure *space"] | None,
        tint: Bool[np.ndarray, "*space"] | None = None,
        heat: Float[np.ndarray, "row column"] | None = None,
        size: float = 2.5,
    ) -> bytes:
        """PNG of the image with outlines.

        Args:
            parts: masks that are outlined, each in a colour of its own.
            true: the true ones, dashed.
            tint: where it is tinted.
            heat: of the part that is shown (:meth:`of`), 0 to 1.
            size: width in inches at 130 dpi.
        """
        rows, columns = self.picture.shape[:2]
        height = min(max(size * self.aspect * rows / columns, size / 2), size * 2)
        figure = figures.Figure((size, height), dpi=130, facecolor="black")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        low, high = self.limits
        # Colours are shown as they are, and grey levels by a map, which two axes ask for.
        shown = np.clip((self.picture - low) / (high - low), 0, 1)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=self.aspect)
        if tint is not None:
            colour = np.zeros((*self.of(tint).shape, 4))
            colour[self.of(tint)] = colors.to_rgba(TINT, 0.6)
            axes.imshow(colour, aspect=self.aspect, interpolation="nearest")
        if heat is not None:
            # Seen through where nothing varies.
            axes.imshow(heat, cmap="hot", vmin=0, vmax=1, alpha=np.sqrt(heat), aspect=self.aspect)
        shadow = [patheffects.withStroke(linewidth=2.6, foreground="#000000a0")]
        for number, part in enumerate(parts):
            colour_name = COLOURS[number % len(COLOURS)]
            _outline(axes, self.of(part), colors=colour_name, linewidths=1.5, path_effects=shadow)
        for part in () if true is None else self.of(true):
            _outline(
                axes, part, colors=_TRUTH, linewidths=1.1, linestyles="--", path_effects=shadow
            )
        return small_png(figure)


def small_png(figure: figures.Figure) -> bytes:
    """A PNG with a palette: a page with fifty pictures must stay small enough to be sent."""
    canvas: Any = backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    file = io.BytesIO()
    picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        file, format="png", optimize=True
    )
    return file.getvalue()


def _outline(axes: object, part: Bool[np.ndarray, "row column"], **style: object) -> None:
    if part.any():
        # A frame of background closes outlines at the edge of the picture.
        axes.contour(  # type: ignore[attr-defined]
            np.arange(-1, part.shape[1] + 1),
            np.arange(-1, part.shape[0] + 1),
            np.pad(part, 1).astype(float),
            levels=[0.5],
            **style,
        )


def view_of(
    image: Float[np.ndarray, "channel *space"],
    masks: Iterable[UInt8[np.ndarray, "field *space"]],
    space: LabelSpace,
    spacing_mm: Sequence[float] | None,
    colour: bool = False,
    focus: Bool[np.ndarray, "*space"] | None = None,
) -> View:
    """What of an image is shown: around all masks, of a volume the slice with most foreground.

    Where nothing is drawn, the whole image, or the middle slice.

    Args:
        image: of which the first channel is shown, or red, green and blue.
        masks: whose foreground is to be seen.
        space: what their values mean.
        spacing_mm: voxel size; square voxels where None.
        colour: whether the channels are red, green and blue.
        focus: of a volume the slice with most of this is shown, where there is any of it.
    """
    picture = np.asarray(np.moveaxis(image, 0, -1) if colour else image[0])
    anything = np.zeros(image.shape[1:], bool)
    for mask in masks:
        anything |= space.structure_masks(mask).any(axis=0)
    level, steps = None, tuple(spacing_mm or (1.0,) * anything.ndim)
    aspect = steps[0] / steps[1]
    limits = np.percentile(picture, (0.5, 99.5))
    if anything.ndim == 3:
        # Axes of a volume are (x, y, z): x goes to the right.
        chosen = anything if focus is None or not focus.any() else focus
        drawn = chosen.sum(axis=(0, 1))
        level = int(drawn.argmax()) if drawn.any() else len(drawn) // 2
        picture, anything = picture[:, :, level].swapaxes(0, 1), anything[..., level].T
        aspect = 1 / aspect
    cut = (_span(np.any(anything, axis=1)), _span(np.any(anything, axis=0)))
    low, high = float(limits[0]), float(max(limits[1], limits[0] + 1e-6))
    return View(np.asarray(picture[cut], dtype=float), aspect, level, cut, (low, high))


def plane_of(case: Case) -> Float[np.ndarray, "row column"] | Float[np.ndarray, "row column 3"]:
    """A 2D image as matplotlib shows it: its first channel, or its colours, from 0 to 1."""
    if not case.colour:
        return np.asarray(case.image[0])
    low, high = float(case.image.min()), float(case.image.max())
    return np.moveaxis((case.image - low) / max(high - low, 1e-6), 0, -1)


def _span(held: Bool[np.ndarray, " n"]) -> slice:
    """Where something is, with room around it; everything where nothing is."""
    where = np.flatnonzero(held)
    if not len(where):
        return slice(0, len(held))
    room = max(4, len(held) // 10, (int(where[-1]) - int(where[0])) // 4)
    return slice(max(0, int(where[0]) - room), min(len(held), int(where[-1]) + room + 1))
