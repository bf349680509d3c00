"""The margins of a whole step across processes, for objectives with batch statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from segpref.objectives.groups import grouped
from segpref.runtime import in_step, runtime
from segpref.types import Margins, Objective

__all__ = ["StepObjective", "step_objective"]


@dataclass(frozen=True, slots=True)
class StepObjective:
    """An objective of all margins of a step, of which this process has a part.

    The other processes' margins are there without a graph. So the loss is that of the whole batch, and
    its gradient by this process's margins is exact, also where the loss of one pair depends on the
    others: by the chain rule the gradient of the whole is the sum of what the processes have.

    Args:
        objective: loss on margins.
        others: the margins of all processes, in the order of their images in the batch, without a
            graph; None where one process has them all.
        own: where this process's margins stand among them.
    """

    objective: Objective
    others: Margins | None = None
    own: Int64[np.ndarray, " n"] | None = None

    def __call__(self, margins: Margins) -> Float[Tensor, " P"]:
        """Losses of all pairs of the step, from this process's margins, one per group."""
        return self.objective(self._whole(margins))

    def of_own(self, losses: Float[Tensor, " P"]) -> Float[Tensor, " n"]:
        """The losses of this process's pairs."""
        return losses if self.own is None else losses[torch.from_numpy(self.own).to(losses.device)]

    def _whole(self, margins: Margins) -> Margins:
        if self.others is None or self.own is None:
            return margins
        place = torch.from_numpy(self.own).to(margins.gap.device)
        whole = {}
        for one in fields(Margins):
            mine, every = getattr(margins, one.name), getattr(self.others, one.name)
            if mine is not None:
                whole[one.name] = every.to(mine).index_copy(0, place, mine)
        return replace(margins, **whole)


def step_objective(
    objective: Objective, margins: Margins | None, cases: Sequence[int] | Int64[np.ndarray, " P"]
) -> StepObjective:
    """The objective of a step. Of several processes each must call this, with pairs or without.

    Args:
        objective: loss on margins.
        margins: this process's; None where it has no pair.
        cases: the image of each pair, as its place in this process's part of the batch.
    """
    if not in_step():
        return StepObjective(objective)
    here = runtime()
    part: list[tuple[int, int, dict[str, np.ndarray]]] = []
    places: list[tuple[int, int]] = []
    if margins is not None and not here.idle:
        plain = {
            one.name: getattr(grouped(margins), one.name)
            for one in fields(Margins)
            if getattr(margins, one.name) is not None and one.name not in ("weight", "group")
        }
        rows = {name: value.detach().cpu().numpy() for name, value in plain.items()}
        images = [here.place_in_batch(case) for case in _case_of_each(margins, cases)]
        places = [(image, number) for number, image in enumerate(images)]
        part = [
            (*place, {name: values[row] for name, values in rows.items()})
            for row, place in enumerate(places)
        ]
    every = sorted(here.gathered(part), key=lambda one: one[:2])
    if not places:
        return StepObjective(objective)
    order = {one[:2]: row for row, one in enumerate(every)}
    columns = {name: torch.from_numpy(np.stack([one[2][name] for one in every])) for name in rows}
    return StepObjective(
        objective, Margins(**columns), np.array([order[place] for place in places])
    )


def _case_of_each(margins: Margins, cases: Sequence[int] | np.ndarray) -> list[int]:
    """The image of each pair, or of each group in the order of their numbers."""
    of_pairs = np.asarray(cases)
    if margins.group is not None:
        _, first = np.unique(margins.group.cpu().numpy(), return_index=True)
        of_pairs = of_pairs[first]
    return [int(case) for case in of_pairs]
