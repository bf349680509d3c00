"""Devices, precision and processes: the one place that chooses a device and moves a model or a batch.

A program has one :class:`Runtime` at a time, :func:`runtime`. A training makes its own, with its
precision, and it stays for what the program does after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from torch import Tensor, nn

from segpref.types import SegprefError

__all__ = ["Runtime", "runtime"]

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)

_current: Runtime | None = None


def runtime() -> Runtime:
    """The runtime of this program; one without mixed precision where nobody has made one yet."""
    return _current or Runtime()


class Runtime:
    """Where networks and batches are, in which precision they are computed, and by which processes.

    The GPU is taken where there is one. With several processes (``accelerate launch``, ``torchrun``)
    each has its own, and the first one of the launch writes files for all.

    Args:
        precision: ``no``, ``bf16`` or ``fp16``, as in Accelerate.

    Raises:
        SegprefError: the machine does not have this precision.
    """

    def __init__(self, precision: str = "no") -> None:
        global _current
        # Accelerate keeps the precision of the first training of a process and refuses another one.
        AcceleratorState._reset_state()
        try:
            self._accelerator = Accelerator(
                mixed_precision=precision,
                cpu=not torch.cuda.is_available(),
                # Of a promptable model not every weight is asked for by every prompt.
                kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
            )
        except ValueError as error:
            raise SegprefError(
                f"precision {precision} can't be had on this machine ({error}): use precision no"
            ) from error
        self.precision = precision
        _current = self

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device(self._accelerator.device)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self._accelerator.process_index)

    @property
    def processes(self) -> int:
        """How many processes share the work."""
        return int(self._accelerator.num_processes)

    @property
    def first(self) -> bool:
        """Whether this process writes for all."""
        return bool(self._accelerator.is_main_process)

    def place(self, network: Network) -> Network:
        """Move a network to the device, as it is."""
        return network.to(self.device)

    def learning(
        self, network: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """A network in the run's precision, whose gradients all processes share, and its optimiser."""
        wrapped, prepared = self._accelerator.prepare(self.place(network), optimizer)
        return wrapped, prepared

    def frozen(self, network: nn.Module) -> nn.Module:
        """A network that does not learn, in the same precision as the one that does."""
        self.place(network).requires_grad_(False)
        wrapped: nn.Module = self._accelerator.prepare_model(network, evaluation_mode=True)
        return wrapped

    def move(self, batch: Tensor) -> Tensor:
        """A batch on the device; the copy to a GPU does not wait."""
        if self.device.type != "cuda" or batch.is_cuda:
            return batch.to(self.device)
        return batch.pin_memory().to(self.device, non_blocking=True)

    def autocast(self) -> AbstractContextManager[None]:
        """Passes inside are in the run's precision."""
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss; the mean over processes where there are several."""
        self._accelerator.backward(loss)

    def shared(self, items: Sequence[T]) -> Sequence[T]:
        """The items that fall to this process."""
        return items[self.rank :: self.processes]

    def gathered(self, part: Sequence[T]) -> list[T]:
        """The items of all processes, process by process; each must take part."""
        if self.processes == 1:
            return list(part)
        everything: list[Any] = gather_object(list(part))
        return everything

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()
