"""Dropout inserted into any network, for diverse predictions (MAPO, Sec. 3.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.networks.blocks import find_blocks, find_dropout
from segpref.networks.seeded_dropout import DropoutPlace, axis_of, masked
from segpref.types import SegprefError

__all__ = ["DropoutKind", "InjectedDropout"]

DropoutKind = Literal["element", "channel"]
"""What is dropped together: nothing (single numbers), or a channel at all places of an image."""


class InjectedDropout:
    """Dropout after every block of a network, at a rate that is chosen anew for each pass.

    With rate d a feature x becomes ``x m / (1 - d)`` with ``m = 1`` at probability 1 - d and else 0.
    Hooks are there only inside :meth:`active` and ``keyed_dropout``: outside of them, and at rate 0,
    the network runs as if it had never been touched; its code, weights and checkpoint keys never
    change.

    The paper applies one set of rates to networks that have their dropout layers; so a block with a
    layer of its own (at whatever rate, also 0) has that layer driven at the rate, where the network's
    author put it, and gets none behind it. ``own="leave"`` leaves such layers alone in evaluation
    mode, and every block gets injected dropout. A layer of the kind that drops channels
    (``nn.Dropout2d``) goes on doing so; one that drops single numbers drops what is asked for.
    ``nn.AlphaDropout`` counts as none.

    Args:
        network: maps images to logits. Batches are its first axis throughout (or images times windows,
            with the windows of an image together).
        images: an image or a few on the network's device, to find the blocks with one pass.
        blocks: names of the blocks, as in ``dict(network.named_modules())``; found by
            :func:`~segpref.networks.find_blocks` where None.
        own: whether the network's own dropout layers are driven at the rate too.

    Raises:
        SegprefError: a name that is no block of the network.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Float[Tensor, "B channel *space"],
        blocks: Sequence[str] | None = None,
        own: Literal["drive", "leave"] = "drive",
    ) -> None:
        drive = own == "drive"
        self._network = network
        self._own = find_dropout(network, images) if drive else ()
        found = find_blocks(network, images, blocks)
        self._axes = {
            name: next((b.channel_axis for b in found if name.startswith(f"{b.name}.")), 1)
            for name, _ in self._own
        }
        self._blocks = [block for block in found if not (drive and block.own_dropout)]

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the blocks that dropout is injected after."""
        return tuple(block.name for block in self._blocks)

    @property
    def own_layers(self) -> tuple[str, ...]:
        """Names of the network's own dropout layers that are driven."""
        return tuple(name for name, _ in self._own)

    @contextmanager
    def active(
        self, rate: float, seeds: Sequence[int], kind: DropoutKind = "element"
    ) -> Iterator[None]:
        """Passes inside have dropout at this rate, in evaluation mode.

        Every image has its own random generator, so its masks depend on its seed (and the kind of
        device) alone, whatever else is in the batch and in which order. A second pass inside goes on
        drawing; the same context opened again repeats the first.

        Args:
            rate: from 0 (nothing happens at all) to below 1.
            seeds: one per image of the batch.
            kind: ``element``, as the paper has it (single neurons), or ``channel``: spatial dropout,
                which convolutions cannot average out.

        Raises:
            SegprefError: a rate out of range, a network in training mode, or a batch of another size
                than ``seeds``.
        """
        _check(rate)
        if self._network.training:
            raise SegprefError(
                "dropout for candidates needs the network in evaluation mode: call network.eval() first"
            )
        if rate == 0:
            yield
            return
        sources: dict[torch.device, list[torch.Generator]] = {}

        def sourced(name: str, axis: int | None) -> Callable[..., Tensor]:
            def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
                device = output.device
                if device not in sources:
                    sources[device] = [torch.Generator(device).manual_seed(s) for s in seeds]
                if output.shape[0] % len(seeds):
                    raise SegprefError(
                        f"the block {name!r} gives {output.shape[0]} rows for {len(seeds)} seeds: give "
                        "one seed per image of the batch"
                    )
                return masked(output, rate, axis, sources[device])

            return hook

        hooks = [
            block.module.register_forward_hook(
                sourced(block.name, block.channel_axis if kind == "channel" else None)
            )
            for block in self._blocks
        ]
        hooks += [
            layer.register_forward_hook(sourced(name, self._own_axis(name, layer, kind)))
            for name, layer in self._own
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def places(self, rate: float, kind: DropoutKind = "element") -> list[DropoutPlace]:
        """Where features are dropped at this rate in training mode, with ``keyed_dropout``.

        For the warm-up (Sec. 3.3.1) of a network that has no dropout.

        Raises:
            SegprefError: a rate out of range.
        """
        _check(rate)
        own = [(layer, self._own_axis(name, layer, kind)) for name, layer in self._own]
        blocks = [(b.module, b.channel_axis if kind == "channel" else None) for b in self._blocks]
        return [DropoutPlace(module, rate, axis) for module, axis in (*own, *blocks)]

    def _own_axis(self, name: str, layer: nn.Module, kind: DropoutKind) -> int | None:
        """What one of the network's own layers drops together: None for single numbers."""
        own = axis_of(layer)
        return self._axes[name] if own is None and kind == "channel" else own


def _check(rate: float) -> None:
    if not 0 <= rate < 1:
        raise SegprefError(f"a dropout rate is from 0 to below 1, not {rate}")
