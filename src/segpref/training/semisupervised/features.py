"""Feature perturbation: channels of the encoder's features are set to zero (UniMatch, Sec. 3.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segpref.late import late
from segpref.runtime import moved

__all__ = ["feature_layers", "lost_channels"]

monai_layers = late("monai.networks.layers.simplelayers")


def feature_layers(network: nn.Module, image: Tensor) -> list[nn.Module]:
    """Where a network's encoder hands its features to the decoder, found by running it once.

    These are the skip connections of MONAI's U-Nets and, in any network, the outermost module with
    the smallest feature map (of more than one pixel, which would be channel attention). UniMatch
    drops channels of every encoder stage on the way to the decoder; which stages a foreign network
    has is unknown, so there only the deepest features are perturbed.
    """
    skips = [
        m
        for m in network.modules()
        if isinstance(m, monai_layers.SkipConnection) and m.mode == "cat"
    ]
    calls: list[tuple[int, nn.Module, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == image.ndim and module not in skips:
            calls.append((math.prod(output.shape[2:]), module, output))

    training = network.training
    with ExitStack() as hooks, torch.no_grad():
        for module in network.modules():
            hooks.enter_context(_hooked(module, note))
        outputs = network.eval()(image)
        network.train(training)
    logits = outputs[0] if isinstance(outputs, list | tuple) else outputs
    maps = [(size, module) for size, module, output in calls if size > 1 and output is not logits]
    smallest = min((size for size, _ in maps), default=0)
    # Hooks fire inner modules first, so the last of the smallest is the outermost.
    deepest = [module for size, module in maps if size == smallest][-1:]
    return [*skips, *deepest]


@contextmanager
def lost_channels(
    layers: Sequence[nn.Module],
    rows: Sequence[int],
    rate: float,
    generators: Sequence[torch.Generator],
) -> Iterator[None]:
    """Inside, these images of a batch lose channels of the layers' features with probability ``rate``.

    Each of them draws from its own generator. Of a skip connection's output ``[features, decoded]``
    only the features are touched.
    """

    def drop(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        width = (
            inputs[0].shape[1]
            if isinstance(module, monai_layers.SkipConnection)
            else output.shape[1]
        )
        kept = torch.stack([torch.rand(width, generator=one) for one in generators]) >= rate
        scale = torch.ones(output.shape[:2])
        scale[list(rows), :width] = kept / (1 - rate)
        scale = scale.to(output.dtype).reshape(*scale.shape, *[1] * (output.ndim - 2))
        return output * moved(scale, output.device)

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(_hooked(layer, drop))
        yield


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
