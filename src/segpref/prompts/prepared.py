"""Converts prompts from the pixels of an image on disk to those of the prepared image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.checking import checked as checked_class
from segpref.data.preparation import Preparation
from segpref.prompts.prompt import Box, Prompt, Prompts, checked
from segpref.prompts.sources import image_digest
from segpref.types import Case, SegprefError

__all__ = ["FixedPrompts", "in_prepared"]


def in_prepared(
    prompts: Sequence[Prompt], case: Case, preparation: Preparation
) -> tuple[Prompt, ...]:
    """One prompt per structure, moved from the image as it was read to the policy's input.

    Resampling, crop and resizing map places by ``x' = (x - b) / a`` on each axis. The two numbers are
    read off what the preparation makes of an image whose values are its own coordinates, so they
    are right whatever it does. What lies beyond the crop is cut: a box to the part that is left,
    points altogether.

    Args:
        prompts: in the frame of :class:`Prompt`, of the case's last two axes in 2D and of its first
            two where the case is a volume and the preparation makes slices of it.
        case: as it was read, before it was prepared.
        preparation: of the policy's input.

    Raises:
        SegprefError: a prompt outside the image, a mask prompt, or nothing left within the crop.
    """
    shape = case.image.shape[1:3]
    checked([list(prompts)], 1, len(prompts), shape)
    ramps = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float32)
    spacing = None if case.spacing_mm is None else case.spacing_mm[:2]
    plain = replace(preparation, normalise="none", window=None)
    made = plain.apply(replace(case, image=ramps, label=None, raters=None, spacing_mm=spacing))
    rows, columns = made.images[0]
    height, width = rows.shape
    down, across = _line(rows[:, width // 2]), _line(columns[height // 2])
    return tuple(_moved(prompt, down, across, (height, width)) for prompt in prompts)


@checked_class()
class FixedPrompts:
    """The same prompts for every image, such as those of a command line.

    Args:
        prompts: one per structure, in the frame of the prepared image.
    """

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = tuple(prompts)

    def __call__(self, images: Float[Tensor, "B channel H W"]) -> Prompts:
        """One prompt per image and structure."""
        return [self.prompts] * len(images)

    def key(self) -> dict[str, object]:
        """What the prompts depend on besides the image."""
        guesses = [
            None if p.mask is None else image_digest(torch.from_numpy(p.mask)[None])
            for p in self.prompts
        ]
        rows = [[p.box, p.points, p.text] for p in self.prompts]
        return {"prompts": "fixed", "are": rows, "masks": guesses}


@dataclass(frozen=True, slots=True)
class _Line:
    slope: float
    start: float

    def __call__(self, place: float) -> float:
        return (place - self.start) / self.slope


def _line(values: Float[np.ndarray, " n"]) -> _Line:
    # In the middle, for at the edge the image may be padded or blurred.
    middle = len(values) // 2
    slope = float(values[middle] - values[middle - 1])
    if slope <= 0:
        raise SegprefError("an image of one pixel has no place for a prompt: leave the prompt out")
    return _Line(slope, float(values[middle]) - slope * middle)


def _moved(prompt: Prompt, down: _Line, across: _Line, shape: tuple[int, int]) -> Prompt:
    if prompt.mask is not None:
        raise SegprefError("a mask prompt can't be moved to the prepared image: give box or points")
    height, width = shape
    box: Box | None = None
    if prompt.box is not None:
        # A box lies on edges of pixels, and those are mapped as centres are.
        left, right = (min(max(across(x), -0.5), width - 0.5) for x in prompt.box[::2])
        top, bottom = (min(max(down(y), -0.5), height - 0.5) for y in prompt.box[1::2])
        if left >= right or top >= bottom:
            raise SegprefError(
                f"the box {prompt.box} lies beyond the part of the image that the model sees "
                f"({width} x {height} pixels after its crop): draw it nearer to the middle"
            )
        box = (left, top, right, bottom)
    points = tuple(
        (x, y, label)
        for x, y, label in ((across(x), down(y), label) for x, y, label in prompt.points)
        if -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5
    )
    if prompt.points and not points:
        raise SegprefError(
            "all point prompts lie beyond the part of the image that the model sees "
            f"({width} x {height} pixels after its crop): set them nearer to the middle"
        )
    return Prompt(box, points, text=prompt.text)
