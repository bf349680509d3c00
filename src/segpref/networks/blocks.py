"""Finds where the blocks of a network end, after which dropout can be inserted."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.types import SegprefError

__all__ = ["Block", "DropoutLayer", "find_blocks", "find_dropout"]

DropoutLayer = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d

_NORMALISES = {"normalization", "batchnorm", "instancenorm"}


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a network whose output is a feature map.

    Args:
        name: as in ``dict(network.named_modules())``.
        module: the part.
        channel_axis: axis of the output that holds the channels: 1, or -1 (tokens).
        own_dropout: whether a dropout layer of the network's own is part of it.
    """

    name: str
    module: nn.Module
    channel_axis: int
    own_dropout: bool = False


def find_blocks(
    network: nn.Module,
    images: Float[Tensor, "B channel *space"],
    names: Sequence[str] | None = None,
) -> tuple[Block, ...]:
    """The blocks of any network, in the order of its modules.

    A block is the smallest module that holds, outside of smaller blocks, a layer that mixes channels
    (a convolution, a linear layer: whatever has a weight of two or more axes) together with a
    normalisation or an activation: a convolution with its norm and activation, a residual unit with
    its convolutions, a transformer block. Where such a module has no feature map to give (a whole
    network that is one chain, an encoder that returns a list) and no block in it, its activations stand
    for it. Where that finds nothing (activations that are called as functions), every mixing layer is a
    block.

    A feature map has images first, more than one channel, and at least one axis besides, and some
    mixing layer runs after it: the head and the logits are never among the blocks, nor are
    attention gates of one channel.

    Args:
        network: maps images to logits; left as it is.
        images: a small batch on the network's device; it is passed once.
        names: parts to take instead, named as ``dict(network.named_modules())`` does.

    Raises:
        SegprefError: a name that the network has not, or whose output is no feature map.
    """
    trace = _trace(network, images)
    if names is not None:
        return tuple(_named(network, name, trace) for name in names)
    found: list[Block] = []
    loose = _collect(network, "", trace, found, set())
    if not found:
        found = [
            Block(name, leaf, _channel_axis(leaf, [leaf], trace))
            for name, leaf in loose
            if _mixes(leaf) and trace.is_feature_map(leaf)
        ]
    return tuple(found)


def find_dropout(
    network: nn.Module, images: Float[Tensor, "B channel *space"]
) -> tuple[tuple[str, DropoutLayer], ...]:
    """The network's own dropout layers that run before its head, whatever their rate."""
    trace = _trace(network, images)
    return tuple(
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, DropoutLayer) and trace.is_inner(module)
    )


@dataclass(slots=True)
class _Trace:
    """What each module gave in one pass, and when.

    Args:
        images: how many images were passed.
        outputs: (time, shape, output while it is referenced) of each module's last call, for
            modules that give one tensor of real numbers.
        head: when the last mixing layer began.
        logits: what the network gave.
    """

    images: int
    outputs: dict[nn.Module, tuple[int, torch.Size, weakref.ref[Tensor]]] = field(
        default_factory=dict
    )
    head: int = 0
    logits: Any = None
    time: int = 0

    def is_inner(self, module: nn.Module) -> bool:
        """Whether the module gives a tensor, one or several rows per image, before the head."""
        if module not in self.outputs:
            return False
        when, shape, output = self.outputs[module]
        if not shape or shape[0] % self.images:
            return False
        return when < self.head and not _is_part(output(), self.logits)

    def is_feature_map(self, module: nn.Module) -> bool:
        """Whether the module gives more than one channel at every place before the head."""
        return self.is_inner(module) and len(self.outputs[module][1]) > 2


def _trace(network: nn.Module, images: Tensor) -> _Trace:
    trace = _Trace(len(images))

    def begin(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        trace.time += 1
        trace.head = trace.time

    def end(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        trace.time += 1
        trace.outputs.pop(module, None)
        if isinstance(output, Tensor) and output.is_floating_point():
            trace.outputs[module] = trace.time, output.shape, weakref.ref(output)

    hooks = [module.register_forward_hook(end) for module in network.modules()]
    hooks += [m.register_forward_pre_hook(begin) for m in network.modules() if _mixes(m)]
    try:
        with torch.no_grad(), _evaluating(network):
            trace.logits = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def _collect(
    module: nn.Module, name: str, trace: _Trace, found: list[Block], seen: set[nn.Module]
) -> list[tuple[str, nn.Module]]:
    """Note the blocks in a module; returns its layers that belong to none."""
    seen.add(module)
    if next(module.children(), None) is None:
        return [(name, module)]
    before = len(found)
    loose: list[tuple[str, nn.Module]] = []
    for child_name, child in module.named_children():
        if child not in seen:
            path = f"{name}.{child_name}" if name else child_name
            loose += _collect(child, path, trace, found, seen)
    layers = [layer for _, layer in loose]
    if not (any(map(_mixes, layers)) and any(_bends(layer) for layer in layers)):
        return loose
    own = any(isinstance(layer, DropoutLayer) and trace.is_inner(layer) for layer in layers)
    if trace.is_feature_map(module):
        parts = [(name, module)]
    else:
        parts = [part for part in loose if _activates(part[1]) and trace.is_feature_map(part[1])]
        if not parts or len(found) > before:
            return loose
    for path, part in parts:
        axis = _channel_axis(part, layers, trace)
        if trace.outputs[part][1][axis] > 1:
            found.append(Block(path, part, axis, own))
    return []


def _named(network: nn.Module, name: str, trace: _Trace) -> Block:
    try:
        module = network.get_submodule(name)
    except AttributeError as error:
        raise SegprefError(
            f"the network has no part {name!r}: name blocks as `dict(network.named_modules())` does"
        ) from error
    if not trace.is_feature_map(module):
        raise SegprefError(
            f"the part {name!r} gives no feature map for further layers: name a block before the head "
            "that returns one tensor"
        )
    layers = [layer for layer in module.modules() if next(layer.children(), None) is None]
    own = any(isinstance(layer, DropoutLayer) and trace.is_inner(layer) for layer in layers)
    return Block(name, module, _channel_axis(module, layers, trace), own)


def _channel_axis(module: nn.Module, layers: Sequence[nn.Module], trace: _Trace) -> int:
    """Last, where linear layers made that axis; otherwise 1, as convolutions have it."""
    last = trace.outputs[module][1][-1]
    mixing = [layer for layer in layers if _mixes(layer)]
    linear = mixing and isinstance(mixing[-1], nn.Linear)
    sizes = [layer.out_features for layer in mixing if isinstance(layer, nn.Linear)]
    return -1 if linear and last in sizes else 1


def _mixes(module: nn.Module) -> bool:
    return any(weight.ndim > 1 for weight in module.parameters(recurse=False))


def _bends(module: nn.Module) -> bool:
    kind = type(module).__module__.rpartition(".")[2]
    scales = any(weight.ndim == 1 for weight in module.parameters(recurse=False))
    return _activates(module) or kind in _NORMALISES or (scales and not _mixes(module))


def _activates(module: nn.Module) -> bool:
    return type(module).__module__.rpartition(".")[2] == "activation"


def _is_part(output: Tensor | None, logits: Any) -> bool:
    """Whether a tensor is among what the network gives, or another view of it."""
    if output is None:
        return False
    given = logits if isinstance(logits, list | tuple) else [logits]
    place = output.untyped_storage().data_ptr()
    return any(
        isinstance(one, Tensor) and one.untyped_storage().data_ptr() == place for one in given
    )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
