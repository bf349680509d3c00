"""Hooks that stay on a network's last stage, for passes that are compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["StandingWatch"]


class StandingWatch:
    """What passes leave behind while it is on; nothing is kept while it is off.

    Hooks that come and go would not get into a network that is compiled already. These are there before
    and stay, and do nothing but set attributes, which can be compiled with the rest.

    Args:
        first: the module whose input is kept.
        settled: modules whose outputs are kept.
        in_place: whether copies are kept, because what is kept may be changed in place.
    """

    def __init__(self, first: nn.Module, settled: Sequence[nn.Module], in_place: bool) -> None:
        self.entered: Tensor | None = None
        self.precision: torch.dtype | None = None
        self.given: list[Any] = [None] * len(settled)
        self._on, self._in_place = False, in_place
        first.register_forward_pre_hook(_Begin(self))
        for number, module in enumerate(settled):
            module.register_forward_hook(_Keep(self, number))

    @contextmanager
    def on(self) -> Iterator[None]:
        """Passes inside are watched; the last one counts."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def begin(self, tensor: Tensor) -> None:
        """A pass comes to the stage."""
        if self._on:
            kind = tensor.device.type
            mixed = torch.is_autocast_enabled(kind)
            self.precision = torch.get_autocast_dtype(kind) if mixed else None
            self.entered = self._own(tensor)

    def keep(self, number: int, output: Tensor) -> None:
        """A settled module has run."""
        if self._on:
            self.given[number] = self._own(output)

    def _own(self, tensor: Tensor) -> Tensor:
        kept = tensor.detach()
        return kept.clone() if self._in_place else kept


class _Begin:
    compiles = True

    def __init__(self, watch: StandingWatch) -> None:
        self._watch = watch

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._watch.begin(inputs[0])


class _Keep:
    compiles = True

    def __init__(self, watch: StandingWatch, number: int) -> None:
        self._watch, self._number = watch, number

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._watch.keep(self._number, output)
