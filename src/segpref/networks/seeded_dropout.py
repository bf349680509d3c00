"""Dropout whose masks depend on the seed of each image, not on the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segpref.networks.dropout_masks import drawn_masks, seeded_masks
from segpref.seeds import derive_seed

__all__ = [
    "DROPOUT",
    "DropoutPlace",
    "SeededDropout",
    "axis_of",
    "dropout_places",
    "keyed_dropout",
    "masked",
]

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Layers whose masks are drawn for every image by itself."""

_SELU_FLOOR = -1.7580993408473766  # what alpha dropout sets a number to: -scale * alpha of SELU


class SeededDropout:
    """Dropout masks that are a function of the seed of the image and the number of the layer.

    An image's masks depend on nothing else, whatever is in the batch with it. A pass that is repeated
    has the same masks, one that is made again for its gradient (checkpointing), too; another pass needs
    other seeds.
    """

    def __init__(self, seeds: Sequence[int] = ()) -> None:
        self._keys: Tensor | None = None
        self.seeds = seeds

    @property
    def seeds(self) -> Sequence[int]:
        """One per image of the next passes; the rows of an image lie together in a batch."""
        return self._seeds

    @seeds.setter
    def seeds(self, seeds: Sequence[int]) -> None:
        self._seeds = seeds
        if self._keys is not None:
            self._keys = torch.tensor(seeds, dtype=torch.int64)

    def compile(self) -> None:
        """Draw within what is compiled, too, where seeds are numbers of 63 bits in a tensor."""
        self._keys = torch.tensor(self._seeds, dtype=torch.int64)

    def dropped(
        self, features: Tensor, rate: float, axis: int | None, layer: int, floor: float = 0.0
    ) -> Tensor:
        """Features with masks for each image.

        Args:
            features: images (or images times windows) first.
            rate: probability with which a number is dropped.
            axis: what is dropped together: all numbers at one place of this axis, in all windows of an
                image; single numbers where None.
            layer: number of the layer, so that masks of different layers differ.
            floor: what is put in the place of a number before the scale is restored.
        """
        seeds = (
            self._keys if self._keys is not None and torch.compiler.is_compiling() else self._seeds
        )
        # A network whose batch is not its first axis has one mask for all images.
        if len(features) % max(len(seeds), 1):
            seeds = seeds[:1]
        if isinstance(seeds, Tensor):
            shape = _shape(features, len(seeds), axis)
            return _applied(
                features, seeded_masks(features.detach(), seeds, rate, layer, shape), rate, floor
            )
        device = features.device
        sources = [torch.Generator(device).manual_seed(derive_seed(s, layer)) for s in seeds]
        return masked(features, rate, axis, sources, floor)


def masked(
    features: Tensor,
    rate: float,
    axis: int | None,
    sources: Sequence[torch.Generator],
    floor: float = 0.0,
) -> Tensor:
    """Features with the masks of each image; see :meth:`SeededDropout.dropped`."""
    masks = drawn_masks(features, _shape(features, len(sources), axis), rate, sources)
    return _applied(features, masks, rate, floor)


def _shape(features: Tensor, images: int, axis: int | None) -> list[int]:
    """Of an image's mask."""
    shape = [len(features) // images, *features.shape[1:]]
    if axis is not None:
        kept = axis % features.ndim
        shape = [size if number == kept else 1 for number, size in enumerate(shape)]
    return shape


def _applied(features: Tensor, masks: Tensor, rate: float, floor: float) -> Tensor:
    rows = features.reshape(len(masks), -1, *features.shape[1:])
    if not floor:
        return (rows * masks.div_(1 - rate)).reshape(features.shape)
    # Mean and variance stay those of a standard normal variable (Klambauer et al., 2017).
    scale = float(((1 - rate) * (1 + rate * floor**2)) ** -0.5)
    left = rows * masks + floor * (1 - masks) - rate * floor
    return left.mul(scale).reshape(features.shape)


@dataclass(frozen=True, slots=True)
class DropoutPlace:
    """A module behind which features are dropped while it is in training mode.

    Args:
        module: a dropout layer, in whose place it is done, or any other.
        rate: probability with which a number is dropped.
        axis: what is dropped together, as in :meth:`SeededDropout.dropped`.
    """

    module: nn.Module
    rate: float
    axis: int | None = None


def dropout_places(network: nn.Module, rate: float | None = None) -> list[DropoutPlace]:
    """The dropout layers of a network, at their own rates or at this one."""
    return [
        DropoutPlace(layer, float(layer.p) if rate is None else rate, axis_of(layer))
        for layer in network.modules()
        if isinstance(layer, DROPOUT)
    ]


def axis_of(layer: nn.Module) -> int | None:
    """The axis of the channels, where a dropout layer drops whole channels."""
    return 1 if isinstance(layer, nn.Dropout1d | nn.Dropout2d | nn.Dropout3d) else None


@contextmanager
def keyed_dropout(places: Sequence[DropoutPlace], dropout: SeededDropout) -> Iterator[None]:
    """Inside, features are dropped at these places by ``dropout``, and not by torch's global state."""
    layers = [place.module for place in places if isinstance(place.module, DROPOUT)]
    rates = [layer.p for layer in layers]
    hooks = [
        place.module.register_forward_hook(_Drop(place, number, dropout))
        for number, place in enumerate(places)
    ]
    try:
        for layer in layers:
            layer.p = 0.0  # its own forward then gives back its input
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, rate in zip(layers, rates, strict=True):
            layer.p = rate


class _Drop:
    """The hook at one place."""

    compiles = True
    """A training adds it before its first pass and keeps it (:mod:`segpref.networks.compiled`)."""

    def __init__(self, place: DropoutPlace, number: int, dropout: SeededDropout) -> None:
        self._place, self._number, self._dropout = place, number, dropout

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        place = self._place
        if not module.training or not place.rate:
            return output
        floor = _SELU_FLOOR if isinstance(module, nn.AlphaDropout) else 0.0
        return self._dropout.dropped(output, place.rate, place.axis, self._number, floor)
