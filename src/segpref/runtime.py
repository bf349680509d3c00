"""Devices, precision and processes: the one place that chooses a device and moves a model or a batch.

A program has one :class:`Runtime` at a time, :func:`runtime`. A training makes its own, with its
precision, and it stays for what the program does after it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from segpref.late import late
from segpref.process import processes_of_launch
from segpref.types import SegprefError

__all__ = [
    "Runtime",
    "emulates_bfloat16",
    "end_in_launch",
    "fetched",
    "gpus",
    "in_step",
    "lowered",
    "moved",
    "next_in_batch",
    "proposal_precision",
    "runtime",
    "step_sum",
    "step_total",
]

accelerate, accelerate_state = late("accelerate"), late("accelerate.state")
accelerate_utils = late("accelerate.utils")

T = TypeVar("T")
Result = TypeVar("Result")
Network = TypeVar("Network", bound=nn.Module)

log = logging.getLogger(__name__)

_current: Runtime | None = None


def runtime() -> Runtime:
    """The runtime of this program; one without mixed precision if none was made before."""
    return _current or Runtime()


def _leave() -> None:
    """Leave the group of a launch's processes, as torch asks of a program before it ends.

    That alone does not make the end safe: see :func:`end_in_launch`.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def end_in_launch(status: int) -> int:
    """End this process with this exit status, if it is one of several that were launched together.

    What was registered with :mod:`atexit` is done, and output is written. The interpreter is not taken
    apart: threads of torch may still let go of tensors that Python knows, need the interpreter for that
    and abort a process that has finished its work, and with it the launch
    (https://github.com/pytorch/pytorch/pull/179291). Leaving the group of processes does not end these
    threads, as data-parallel networks keep it alive.

    Returns:
        The exit status, in a process that was started alone.
    """
    if processes_of_launch() == 1:
        return status
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):  # closed, or their reader has gone
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    os._exit(status)


def in_step() -> bool:
    """Whether this is a step of a training whose batch several processes share."""
    return _current is not None and _current.in_step


def step_total(number: int) -> int:
    """A number of a step, summed over the processes that share the step."""
    return runtime().total(number) if in_step() else number


def step_sum(value: Tensor) -> Tensor:
    """A sum over a step's images, of those of all the processes that share the step."""
    return runtime().summed(value) if in_step() else value


def next_in_batch(values: Tensor) -> Tensor:
    """For every image of a step, the values of the next one in the batch; the last one's is the first.

    The next one may be another process's. Values come without a graph.

    Args:
        values: one row per image of this process.
    """
    return runtime().next_in_batch(values) if in_step() else values.roll(-1, 0)


def gpus() -> int:
    """How many GPUs this process may use; none of them is touched."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def proposal_precision(asked: Literal["auto", "no", "bf16"], precision: str) -> str:
    """The precision of passes that only propose candidates, on this machine: ``no`` or ``bf16``.

    ``auto`` is ``bf16`` where the hardware computes in it, a GPU or a CPU, and ``no`` in a run of
    another precision than ``no``, which all its passes have. Where bfloat16 is emulated it takes
    longer than float32.

    Args:
        asked: the setting.
        precision: of the run.

    Raises:
        SegprefError: the GPU does not have bfloat16.
    """
    gpu = torch.cuda.is_available()
    if precision != "no" or asked == "no":
        return "no"
    here = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else _cpu_has_bfloat16()
    if asked == "bf16" and gpu and not here:
        raise SegprefError("this GPU does not have bfloat16: use --proposal_precision no")
    return "bf16" if here or asked == "bf16" else "no"


def _cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16; unknown to earlier versions of torch, so not there."""
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def emulates_bfloat16() -> bool:
    """Whether passes in bfloat16 take longer than in float32: on a CPU that does not compute in it."""
    return not torch.cuda.is_available() and not _cpu_has_bfloat16()


def lowered(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Passes inside are in this precision, whatever that of the weights; ``no`` changes nothing."""
    if precision == "no":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def moved(batch: Tensor, device: torch.device) -> Tensor:
    """A batch on a device; the copy to a GPU goes through pinned memory and does not wait."""
    if device.type != "cuda" or batch.is_cuda:
        return batch.to(device)
    return batch.pin_memory().to(device, non_blocking=True)


def fetched(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Tensors as arrays of the host: copied side by side from a GPU, which is waited for once.

    Args:
        tensors: without a graph, of types that arrays have.
    """
    if not any(one.is_cuda for one in tensors):
        return [one.cpu().numpy() for one in tensors]
    copies = [torch.empty(one.shape, dtype=one.dtype, pin_memory=True) for one in tensors]
    for copy, one in zip(copies, tensors, strict=True):
        copy.copy_(one, non_blocking=True)
    for device in {one.device for one in tensors if one.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    return [copy.numpy() for copy in copies]


class Runtime:
    """Where networks and batches are, in which precision they are computed, and by which processes.

    The GPU is taken where there is one. With several processes (``accelerate launch``, ``torchrun``)
    each has its own, and the first one of the launch writes files for all.

    Work is shared out in two ways. What ends up in files that all can read (embeddings of images)
    needs no talk: each process begins with its own part (:func:`segpref.process.own_first`) and finds
    the rest done. What is needed at once is exchanged (:meth:`each`, and within a step :meth:`summed`,
    :meth:`total` and :meth:`gathered`); there all processes must make the same calls, which only a
    training can promise (:meth:`together`, :meth:`step`). Outside of it each works for itself.

    Args:
        precision: ``no``, ``bf16`` or ``fp16``, as in Accelerate.

    Raises:
        SegprefError: the machine does not have this precision.
    """

    def __init__(self, precision: str = "no") -> None:
        global _current
        # Accelerate keeps the precision of the first training of a process and refuses another one.
        accelerate_state.AcceleratorState._reset_state()
        try:
            self._accelerator = accelerate.Accelerator(
                mixed_precision=precision,
                cpu=not torch.cuda.is_available(),
                device_placement=False,  # everything is placed here, and nothing moved back
            )
        except ValueError as error:
            raise SegprefError(
                f"precision {precision} is not available on this machine ({error}): use --precision no"
            ) from error
        self.precision = precision
        self._together = self._in_step = self._idle = False
        if _current is None and self.processes > 1:
            atexit.register(_leave)
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
        self, network: nn.Module, optimizer: torch.optim.Optimizer, partly: bool = True
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """A network in the run's precision, whose gradients all processes share, and its optimiser.

        Args:
            network: what learns.
            optimizer: of its weights.
            partly: whether some weights that learn may have no part in a step's loss, which several
                processes have to look for at every step.
        """
        handler = accelerate_utils.DistributedDataParallelKwargs(find_unused_parameters=partly)
        self._accelerator.ddp_handler = handler
        wrapped, prepared = self._accelerator.prepare(self.place(network), optimizer)
        return wrapped, prepared

    def in_common(self, network: nn.Module) -> nn.Module:
        """The network, its batch normalisation being over the images of all processes on GPUs.

        torch has this for GPUs alone: on CPUs it is over each process's own images, with a warning.
        """
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        if self.processes == 1 or not any(isinstance(one, kinds) for one in network.modules()):
            return network
        if self.device.type == "cuda":
            convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
            return convert(network)
        if self.first:
            log.warning(
                "This network has batch normalisation, whose statistics on CPUs are those of each "
                "process's own images: what %d processes learn is not what one does.",
                self.processes,
            )
        return network

    def frozen(self, network: nn.Module) -> nn.Module:
        """A network that does not learn, in the same precision as the one that does."""
        self.place(network).requires_grad_(False)
        wrapped: nn.Module = self._accelerator.prepare_model(network, evaluation_mode=True)
        return wrapped

    def move(self, batch: Tensor) -> Tensor:
        """A batch on the device; see :func:`moved`."""
        return moved(batch, self.device)

    def autocast(self) -> AbstractContextManager[None]:
        """Passes inside are in the run's precision."""
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss; the mean over processes where there are several."""
        self._accelerator.backward(loss)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, all processes make the same calls, so that :meth:`each` shares work out."""
        before, self._together = self._together, True
        try:
            yield
        finally:
            self._together = before

    @contextmanager
    def step(self, idle: bool = False) -> Iterator[None]:
        """One step of a training, whose batch is shared out over the processes.

        Args:
            idle: there are fewer images than processes, and this one has none: it takes part in what
                all do, and adds nothing.
        """
        before = self._in_step, self._idle
        self._in_step, self._idle = self.processes > 1, idle
        try:
            yield
        finally:
            self._in_step, self._idle = before

    @property
    def in_step(self) -> bool:
        """Whether this is a step whose batch several processes share."""
        return self._in_step

    @property
    def idle(self) -> bool:
        """Whether this process has no image of the step's batch."""
        return self._idle

    def shared(self, items: Sequence[T]) -> Sequence[T]:
        """The items of a step's batch that fall to this process."""
        return items[self.rank :: self.processes]

    def place_in_batch(self, item: int) -> int:
        """Where an item of this process's share stands in the batch of the step."""
        return self.rank + item * self.processes if self._in_step else item

    def each(self, items: Sequence[T], work: Callable[[T], Result]) -> Iterator[Result]:
        """What ``work`` makes of each item, in order.

        Inside :meth:`together` the processes take turns and exchange the results, so that each gets
        them all and holds one turn of them at a time.
        """
        if self.processes == 1 or not self._together:
            yield from map(work, items)
            return
        for first in range(0, len(items), self.processes):
            turn = items[first : first + self.processes]
            yield from self.gathered([self._alone(work, one) for one in self.shared(turn)])

    @property
    def turn(self) -> int:
        """How many items :meth:`each` does at a time: one in every process that takes part."""
        return self.processes if self._together else 1

    def gathered(self, part: Sequence[T]) -> list[T]:
        """The items of all processes, process by process; each must take part."""
        if self.processes == 1:
            return list(part)
        everything: list[Any] = accelerate_utils.gather_object(list(part))
        return everything

    def total(self, number: int) -> int:
        """A number of a step, summed over the processes that share the step."""
        if not self._in_step:
            return number
        return sum(self.gathered([0 if self._idle else number]))

    def summed(self, values: Tensor) -> Tensor:
        """Sums over a step's batch, from those over the part of each process.

        The gradient goes to this process's part, so that the processes' gradients add up to that of
        the sums over the whole batch.
        """
        if not self._in_step:
            return values
        own = values.detach()
        everything: Tensor = self._accelerator.reduce(own * 0 if self._idle else own, "sum")
        return everything + (values - own)

    def next_in_batch(self, values: Tensor) -> Tensor:
        """Within a step, the next image's values for each image of this process's share.

        See :func:`next_in_batch`.
        """
        own = values.detach().cpu()
        parts = self.gathered([own[:0] if self._idle else own])
        if self._idle:
            return values.detach()
        images = sum(map(len, parts))
        places = [(self.place_in_batch(item) + 1) % images for item in range(len(own))]
        following = [parts[place % self.processes][place // self.processes] for place in places]
        return torch.stack(following).to(values.device)

    @property
    def writes(self) -> bool:
        """Whether this process writes what all have made; outside of :meth:`together`, each does."""
        return self.first or not self._together

    def meet(self) -> None:
        """Inside :meth:`together`: until all processes are here."""
        if self._together:
            self.wait()

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()

    def _alone(self, work: Callable[[T], Result], item: T) -> Result:
        """Work that is this process's own, even within a step."""
        before = self._together, self._in_step, self._idle
        self._together = self._in_step = self._idle = False
        try:
            return work(item)
        finally:
            self._together, self._in_step, self._idle = before
