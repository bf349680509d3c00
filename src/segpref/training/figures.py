"""Figures of an epoch's steps, which stay on the device until they are read, all in one copy.

At each number that is read the device has to finish all that it was given, and then waits itself for
what comes next. So a step hands out tensors, which are read when the epoch ends or its place is saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from segpref.types import SegprefError

__all__ = ["Amount", "Derived", "EpochFigures", "Logs", "read_logs", "times"]


@dataclass(frozen=True, slots=True)
class Derived:
    """A number that is worked out on the host, when what it comes from has been read.

    Args:
        source: on the device.
        work_out: from its values, in its shape and type, to the number.
    """

    source: Tensor
    work_out: Callable[[np.ndarray], float]


Amount = float | Tensor | Derived
"""A number; or a tensor without an axis, or what is worked out from one, that has not been read."""

Logs = Mapping[str, tuple[Amount, Amount]]
"""name -> (sum, weight)."""


def times(value: float | Tensor, weight: float) -> Amount:
    """A mean times the number of what it is of; the same bits as if the mean had been read before."""
    return value.detach().double() * weight if isinstance(value, Tensor) else value * weight


def read_logs(logs: Sequence[Logs]) -> list[dict[str, tuple[float, float]]]:
    """Sums and weights of several steps as numbers, by one copy from the device."""
    amounts = [amount for one in logs for pair in one.values() for amount in pair]
    sources = {id(tensor): tensor for one in amounts if (tensor := _source(one)) is not None}
    known = dict(zip(sources, _read(list(sources.values())), strict=True))

    def number(amount: Amount) -> float:
        if isinstance(amount, Derived):
            return amount.work_out(known[id(amount.source)].numpy())
        return float(known[id(amount)]) if isinstance(amount, Tensor) else amount

    return [
        {name: (number(amount), number(weight)) for name, (amount, weight) in one.items()}
        for one in logs
    ]


class EpochFigures:
    """Sums of figures over the steps of an epoch.

    Args:
        totals: name -> [sum, weight], which what is read is added to, in the order of the steps.
    """

    def __init__(self, totals: dict[str, list[float]]) -> None:
        self.totals = totals
        self._logs: list[Logs] = []
        self._losses: list[tuple[int, int, Tensor]] = []

    def add(self, logs: Logs) -> None:
        """The figures of a step."""
        self._logs.append(logs)

    def watch(self, loss: Tensor, epoch: int, number: int) -> None:
        """A loss that weights were updated with, which must turn out to be finite."""
        self._losses.append((epoch, number, loss.detach()))

    def read(self, network: nn.Module) -> None:
        """Add up what there is.

        Args:
            network: its weights must be finite, too.

        Raises:
            SegprefError: a loss or a weight is not finite.
        """
        finite = [torch.isfinite(one).all() for one in network.parameters()]
        watched = {f"{place}": (loss, 1.0) for place, (*_, loss) in enumerate(self._losses)}
        whole = {f"{place}": (one, 1.0) for place, one in enumerate(finite)}
        losses, weights, *found = read_logs([watched, whole, *self._logs])
        for (epoch, number, _), (loss, _) in zip(self._losses, losses.values(), strict=True):
            if not math.isfinite(loss):
                raise _diverged(f"the loss of step {number + 1} of epoch {epoch + 1} is {loss}")
        if not all(one for one, _ in weights.values()):
            raise _diverged("the network has weights that are not finite numbers")
        for logs in found:
            for name, pair in logs.items():
                entry = self.totals.setdefault(name, [0.0, 0.0])
                entry[0] += pair[0]
                entry[1] += pair[1]
        self._logs, self._losses = [], []


def _diverged(what: str) -> SegprefError:
    return SegprefError(
        f"{what}: training has diverged, and what it has learned since the last checkpoint is lost; "
        "lower learning_rate"
    )


def _source(amount: Amount) -> Tensor | None:
    if isinstance(amount, Derived):
        return amount.source
    return amount if isinstance(amount, Tensor) else None


def _read(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same on the host; float64 holds the values of every type that figures have."""
    away = [one.detach() for one in tensors if one.device.type != "cpu"]
    if not away:
        return [one.detach() for one in tensors]
    whole = torch.cat([one.reshape(-1).double() for one in away]).cpu()
    parts = iter(torch.split(whole, [one.numel() for one in away]))
    return [
        one.detach() if one.device.type == "cpu" else next(parts).to(one.dtype).reshape(one.shape)
        for one in tensors
    ]
