"""Propagation through a volume: each slice is prompted by the mask of the one before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from segpref.checking import checked
from segpref.prompts import Prompt, Promptable, box_of, points_in
from segpref.types import SegprefError

__all__ = ["Propagation", "propagate"]

_ABSENT = -6.0
"""Logit of what was not reached: a probability of 0.0025."""


@checked(
    margin={"least": 0},
    points={"least": 0},
    least_pixels={"least": 1},
    least_quality={"least": 0},
    seed={"least": 0},
)
@dataclass(frozen=True)
class Propagation:
    """How a prompt is carried on.

    Args:
        margin: pixels by which the box around a slice's mask is widened for the next slice.
        points: points that are drawn from the mask for the next slice.
        carry_mask: whether the slice's logits are the next one's mask prompt.
        least_pixels: a mask with fewer pixels ends the walk.
        least_quality: so does a predicted IoU below this.
        seed: of the points.
    """

    margin: float = 2.0
    points: int = 3
    carry_mask: bool = True
    least_pixels: int = 1
    least_quality: float = 0.0
    seed: int = 0


def propagate(
    model: Promptable,
    slices: Float[Tensor, "slice channel H W"],
    prompts: Sequence[Prompt] | None = None,
    start: int | None = None,
    how: Propagation | None = None,
) -> Float[Tensor, "slice C H W"]:
    """Logits of a volume, from one slice outwards in both directions.

    Every structure is walked by itself. It begins at ``start`` with its prompt or, without prompts,
    at the slice where the model is surest of it (the highest predicted IoU of a mask that is not
    empty, under the model's own prompts). The next slice gets the box around the mask, some points
    in it and its logits, and the text stays; where the mask ends, the structure ends. Slices that
    are not reached hold -6.

    Args:
        model: promptable.
        slices: of one volume, prepared and in order.
        prompts: one per structure, drawn on the slice ``start``; the model's own if None.
        start: where to begin.
        how: how prompts are carried on.

    Raises:
        SegprefError: prompts without a slice, another number of them, or a slice that is not there.
    """
    how = how or Propagation()
    count, structures = len(slices), model.label_space.fields
    if (prompts is None) != (start is None):
        raise SegprefError(
            "prompts for a volume need the slice that they are drawn on, and no more"
        )
    if start is not None and not 0 <= start < count:
        raise SegprefError(f"there is no slice {start} in a volume of {count}: count from 0")
    if prompts is not None and len(prompts) != structures:
        raise SegprefError(f"{structures} structure(s) need as many prompts, not {len(prompts)}")
    logits = torch.full((count, structures, *slices.shape[2:]), _ABSENT)
    own = None if prompts is not None else _own_answers(model, slices)
    for number in range(structures):
        if prompts is not None and start is not None:
            first, begin = prompts[number], start
        else:
            assert own is not None
            found = own.surest(number)
            if found is None:
                continue
            begin, first = found
        middle = _walk(model, slices, number, first, [begin], how, logits)
        for way in (range(begin + 1, count), range(begin - 1, -1, -1)):
            if middle is not None:
                _walk(model, slices, number, middle, way, how, logits)
    return logits


@dataclass(frozen=True)
class _OwnAnswers:
    prompts: list[Sequence[Prompt]]
    quality: Float[np.ndarray, "slice C"]
    found: Bool[np.ndarray, "slice C"]

    def surest(self, number: int) -> tuple[int, Prompt] | None:
        """The slice to begin at and its prompt; None where the structure is nowhere."""
        if not self.found[:, number].any():
            return None
        sure = np.where(self.found[:, number], self.quality[:, number], -np.inf)
        return int(sure.argmax()), self.prompts[int(sure.argmax())][number]


def _own_answers(model: Promptable, slices: Tensor, batch_size: int = 8) -> _OwnAnswers:
    prompts: list[Sequence[Prompt]] = []
    quality, found = [], []
    for begin in range(0, len(slices), batch_size):
        part = slices[begin : begin + batch_size]
        own = model.prompts_for(part)
        answer = model.ask(part, own)
        prompts += list(own)
        quality.append(answer.quality[:, 0].cpu().numpy())
        found.append((answer.logits[:, 0] > 0).flatten(2).any(-1).cpu().numpy())
    return _OwnAnswers(prompts, np.concatenate(quality), np.concatenate(found))


def _walk(
    model: Promptable,
    slices: Tensor,
    number: int,
    prompt: Prompt,
    way: Iterable[int],
    how: Propagation,
    logits: Tensor,
) -> Prompt | None:
    """Fill one structure's logits along the way; the prompt for what comes next, if anything does."""
    carried: Prompt | None = prompt
    for index in way:
        if carried is None:
            return None
        # A prompt of every structure is asked for; the others' answers are not looked at.
        row = [carried] * model.label_space.fields
        answer = model.ask(slices[index : index + 1], [row])
        mask = answer.logits[0, 0, number].cpu()
        held = (mask > 0).numpy()
        sure = float(answer.quality[0, 0, number])
        if held.sum() < how.least_pixels or sure < how.least_quality:
            return None
        logits[index, number] = mask
        rng = np.random.default_rng([how.seed, number, index])
        carried = Prompt(
            box_of(held, how.margin),
            points_in(held, how.points, rng),
            mask.numpy() if how.carry_mask else None,
            prompt.text,
        )
    return carried
