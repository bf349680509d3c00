"""A network that is compiled beside itself as it is written, and which of its passes are compiled."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segpref.memory import ran_out
from segpref.types import SegprefError

__all__ = ["Compiled", "NotCompiled", "check_compiler"]

BACKEND = "inductor"
"""Of ``torch.compile``."""


class NotCompiled(SegprefError):
    """A network that can't be compiled."""


class Compiled(nn.Module):
    """A network whose passes on batches of a step are compiled, and all others as it is written.

    The network itself stays untouched: its copies, weights and names are those of a network that is not
    compiled. What runs as written:

    - batches of other sizes (the last one of an epoch, validation, windows), each of which would be
      compiled anew. Which pass is compiled depends on the pass alone, so that a run that was stopped
      goes on to the same bits;
    - passes with hooks that are there for a while (injected dropout, lost features, the search for a
      last stage), which would not get into what is compiled already. Hooks that stay say so by an
      attribute ``compiles``.

    What is compiled lies around the wrapper of several processes, which so shares gradients as ever.

    Args:
        network: what learns, as it is wrapped.
        batch: images of a step in this process. In training mode also several of it, side by side, are
            compiled (labelled and unlabelled images).

    Raises:
        SegprefError: torch can't compile here.
    """

    def __init__(self, network: nn.Module, batch: int) -> None:
        super().__init__()
        self.wrapped, self._batch = network, batch
        # Torch compiles a function eight times: the ninth training of a process would have none left.
        torch.compiler.reset()
        self._learning = (_compiled(network),)  # in tuples, which nn.Module does not search
        self._other = (_compiled(self.module),)

    @property
    def module(self) -> nn.Module:
        """The network as it is written, without what several processes wrap around it."""
        inner: nn.Module = getattr(self.wrapped, "module", self.wrapped)
        return inner

    def forward(self, images: Tensor) -> Any:
        """What the network gives for images ``[B, channel, *space]``.

        Raises:
            NotCompiled: the network can't be compiled.
        """
        learning = torch.is_grad_enabled()
        # Processes talk in a pass with a graph alone, whose number is the same for all.
        if not self._fits(images) or _hooked(self.module):
            return (self.wrapped if learning else self.module)(images)
        (network,) = self._learning if learning else self._other
        try:
            return network(images)
        except Exception as error:
            if ran_out(error) or not _by_compiler(error):
                raise
            raise NotCompiled(
                f"this network can't be compiled ({_reason(error)}): leave --compile out"
            ) from error

    def _fits(self, images: Tensor) -> bool:
        if self.module.training:
            return len(images) % self._batch == 0
        return len(images) == self._batch


def check_compiler(gpu: bool = False) -> None:
    """Compile a line on this machine, so that what is missing is said before any work.

    Args:
        gpu: whether networks are on one.

    Raises:
        SegprefError: it can't be done.
    """
    inductor = BACKEND == "inductor"
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if inductor and not gpu and shutil.which(compiler) is None:
        # What lies in torch's cache would hide it until the network itself is compiled.
        raise SegprefError(
            f"there is no C++ compiler {compiler} on this machine, which compile needs: install one, "
            "name it in the environment variable CXX, or leave --compile out"
        )
    try:
        line: Callable[[Tensor], Tensor] = torch.compile(_line, backend=BACKEND)
        line(torch.zeros(8, device="cuda" if gpu else "cpu"))
    except Exception as error:
        raise SegprefError(
            f"networks can't be compiled on this machine ({_reason(error)}): see whether its compiler "
            "and the headers of Python are complete, or leave --compile out"
        ) from error


def _line(values: Tensor) -> Tensor:
    return values.cos() + 1


def _compiled(network: nn.Module) -> Any:
    # As torch draws them without it: layers that drop whole paths draw from its global state.
    options: Any = {"fallback_random": True} if BACKEND == "inductor" else None
    return torch.compile(network, backend=BACKEND, dynamic=False, options=options)


def _hooked(network: nn.Module) -> bool:
    """Whether there are hooks that do not stay."""
    return any(
        not getattr(hook, "compiles", False)
        for module in network.modules()
        for hooks in (module._forward_pre_hooks, module._forward_hooks)
        for hook in hooks.values()
    )


def _by_compiler(error: BaseException) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
