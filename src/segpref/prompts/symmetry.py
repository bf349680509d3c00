"""Rotates and flips prompts together with their image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from segpref.prompts.prompt import Prompt

__all__ = ["turned", "turned_prompt"]


def turned(array: np.ndarray, quarters: int, flip: bool) -> np.ndarray:
    """``[..., H, W]`` turned by quarters counter-clockwise, then flipped from left to right."""
    moved = np.rot90(array, quarters, axes=(-2, -1))
    return np.ascontiguousarray(moved[..., ::-1] if flip else moved)


def turned_prompt(prompt: Prompt, shape: Sequence[int], quarters: int, flip: bool) -> Prompt:
    """The prompt of an image of ``shape = (H, W)`` after :func:`turned`."""
    height, width = shape

    def place(x: float, y: float) -> tuple[float, float]:
        tall, wide = height, width
        for _ in range(quarters % 4):
            x, y = y, wide - 1 - x
            tall, wide = wide, tall
        return (wide - 1 - x, y) if flip else (x, y)

    box = prompt.box
    if box is not None:
        one, other = place(box[0], box[1]), place(box[2], box[3])
        box = (
            min(one[0], other[0]),
            min(one[1], other[1]),
            max(one[0], other[0]),
            max(one[1], other[1]),
        )
    points = tuple((*place(x, y), label) for x, y, label in prompt.points)
    mask = None if prompt.mask is None else turned(prompt.mask, quarters, flip)
    return replace(prompt, box=box, points=points, mask=mask)
