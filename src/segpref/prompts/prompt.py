"""Prompts: boxes, points, masks and texts for promptable models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from segpref.types import SegprefError

__all__ = ["Box", "Point", "Prompt", "Prompts", "checked"]

Box: TypeAlias = tuple[float, float, float, float]
"""``(x_min, y_min, x_max, y_max)`` in the frame of :class:`Prompt`."""

Point: TypeAlias = tuple[float, float, int]
"""``(x, y, label)`` in the frame of :class:`Prompt`; label 1 is on the structure, 0 beside it."""

_BEYOND = 1.0


@dataclass(frozen=True)
class Prompt:
    """What is asked about one structure of one image; every part may be left out.

    Coordinates are pixels of the image as the policy is given it (the prepared image): ``x`` runs
    along the last axis, ``y`` along the one before it, and the centre of pixel ``[row, column]`` is
    at ``x = column, y = row``, so an image of ``H x W`` pixels spans ``-0.5 .. W - 0.5`` in ``x``.
    The box around a mask lies on the edges of its outermost pixels, half a pixel beyond their
    centres, so that one pixel has a box of area 1.

    Args:
        box: around the structure.
        points: on the structure or beside it.
        mask: logits ``[H, W]`` of a first guess, in the image's own pixels.
        text: what the structure is.

    Raises:
        SegprefError: a number that is not finite, a box without area, a label that is not 0 or 1,
            or an empty text.
    """

    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: Float[np.ndarray, "H W"] | None = field(default=None, compare=False)
    text: str | None = None

    def __post_init__(self) -> None:
        if self.box is not None:
            _check_box(self.box)
        for point in self.points:
            if not _are_finite(point, 3) or point[2] not in (0, 1):
                raise SegprefError(
                    f"a point prompt is x, y and a label (1 on the structure, 0 beside it), not {point}"
                )
        if self.mask is not None and not np.isfinite(self.mask).all():
            raise SegprefError("a mask prompt holds values that are not finite: give finite logits")
        if self.text is not None and not (isinstance(self.text, str) and self.text.strip()):
            raise SegprefError(
                "a text prompt is empty or no text: say what to look for, or leave the text out"
            )


Prompts: TypeAlias = Sequence[Sequence[Prompt]]
"""Prompts of a batch: ``prompts[image][structure]``."""


def checked(prompts: Prompts, images: int, structures: int, shape: Sequence[int]) -> Prompts:
    """The prompts, if they fit images of ``shape = (H, W)``.

    Boxes and points may reach one pixel beyond the image's edge, as those do that count to ``W``.

    Raises:
        SegprefError: another number of images or structures, or a part that is outside the image.
    """
    if len(prompts) != images or any(len(row) != structures for row in prompts):
        raise SegprefError(
            f"{images} image(s) with {structures} structure(s) need one prompt each, not "
            f"{[len(row) for row in prompts]}: give one list per image with one prompt per structure"
        )
    height, width = shape
    for prompt in (one for row in prompts for one in row):
        if prompt.box is not None:
            left, top, right, bottom = prompt.box
            if (
                min(left, top) < -_BEYOND
                or right > width - 1 + _BEYOND
                or bottom > height - 1 + _BEYOND
            ):
                raise SegprefError(
                    f"the box {_listed(prompt.box)} reaches beyond an image of {width} x {height} "
                    "pixels (width x height): give x_min, y_min, x_max, y_max in pixels of the image"
                )
        for x, y, _ in prompt.points:
            if not (-_BEYOND <= x <= width - 1 + _BEYOND and -_BEYOND <= y <= height - 1 + _BEYOND):
                raise SegprefError(
                    f"the point {_listed((x, y))} is outside an image of {width} x {height} pixels "
                    "(width x height): give x, y in pixels of the image"
                )
        if prompt.mask is not None and prompt.mask.shape != (height, width):
            raise SegprefError(
                f"a mask prompt has {' x '.join(map(str, prompt.mask.shape))} pixels and its image "
                f"{height} x {width}: give the mask in the image's own pixels"
            )
    return prompts


def _check_box(box: Box) -> None:
    if not _are_finite(box, 4):
        raise SegprefError(
            f"a box prompt is four finite numbers, x_min, y_min, x_max and y_max, not {box}"
        )
    if box[0] >= box[2] or box[1] >= box[3]:
        raise SegprefError(
            f"the box {_listed(box)} has no area: give x_min, y_min, x_max, y_max with x_min below "
            "x_max and y_min below y_max"
        )


def _are_finite(values: object, count: int) -> bool:
    """Whether this is a list of so many numbers."""
    if not isinstance(values, Sequence) or len(values) != count:
        return False
    return all(isinstance(one, Real) and math.isfinite(one) for one in values)


def _listed(numbers: Sequence[float]) -> str:
    return "(" + ", ".join(f"{number:g}" for number in numbers) + ")"
