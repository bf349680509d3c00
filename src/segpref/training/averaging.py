"""Moving averages of weights: a teacher, or a steadier policy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["averaged", "teacher_decay", "warm_decay"]


def teacher_decay(updates: int, decay: float) -> float:
    """``min(1 - 1 / (t + 1), decay)`` at update t = 0, 1, ...

    Tarvainen & Valpola (2017) use a low decay at the beginning; this is the form of their code. With
    a decay of 0 the teacher is the student of the step before.
    """
    return min(1 - 1 / (updates + 1), decay)


def warm_decay(updates: int, decay: float) -> float:
    """``min((1 + t) / (10 + t), decay)`` at update t = 0, 1, ...

    It looks back over about t / 10 steps. With a decay of .9999 from the start, ten thousand steps
    would leave a third of the random weights in the average.
    """
    return min(decay, (1 + updates) / (10 + updates))


def averaged(
    network: nn.Module, decay: float, at: Callable[[int, float], float] = teacher_decay
) -> AveragedModel:
    """A copy of the network whose weights follow it; normalisation statistics are copied.

    ``theta' <- a theta' + (1 - a) theta`` at every ``update_parameters(network)``, with ``a`` the decay
    ``at`` (update, decay). The number of updates is part of its state.
    """
    return _Average(network, decay, at)


class _Average(AveragedModel):
    """As torch's own, but the number of updates stays on the host, and no device is waited for."""

    def __init__(self, network: nn.Module, decay: float, at: Callable[[int, float], float]) -> None:
        super().__init__(network)
        self._decay, self._at = decay, at

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """One more update of the weights that are followed."""
        updates = int(self.n_averaged)
        for mean, value in zip(self.module.parameters(), model.parameters(), strict=True):
            if updates:
                mean.lerp_(value, 1 - self._at(updates, self._decay))
            else:
                mean.copy_(value)
        for own, newer in zip(self.module.buffers(), model.buffers(), strict=True):
            own.copy_(newer)
        self.n_averaged += 1
