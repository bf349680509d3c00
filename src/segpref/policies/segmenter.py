"""Segmenters as policies: any network that maps an image to logits of the same size.

Such a policy factorises over pixels, so its log-ratio map is linear in the logits and the reference
enters only through logits that are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.memory import ran_out
from segpref.networks import (
    DropoutKind,
    InjectedDropout,
    SeededDropout,
    dropout_places,
    keyed_dropout,
    weights_digest,
)
from segpref.networks.seeded_dropout import DROPOUT
from segpref.policies.tunable import learn_parts
from segpref.runtime import moved
from segpref.seeds import image_seeds
from segpref.types import LabelSpace, SegprefError, State

__all__ = ["Segmenter", "SegmenterState"]


@dataclass(frozen=True, slots=True)
class SegmenterState:
    """Logits with their graph, and what went into the network's last stage."""

    logits: Float[Tensor, "B C *space"]
    tail_input: Tensor | None = None
    tail_precision: torch.dtype | None = None


class Segmenter:
    """A network as a policy.

    The network stays in evaluation mode, so that dropout and normalisation statistics are frozen
    while it is updated; Monte-Carlo dropout reruns only the last stage, on what the one
    differentiable pass fed into it.

    Args:
        network: maps ``[B, channel, *space]`` to logits ``[B, C, *space]``.
        label_space: what the C outputs mean.
        tail: names of the submodules that make up the last decoder stage and head, in the order in
            which they run; found by itself where None.
    """

    any_size = True

    def __init__(
        self, network: nn.Module, label_space: LabelSpace, tail: Sequence[str] | None = None
    ) -> None:
        self.network = network.eval()
        self.label_space = label_space
        self._tail_names = None if tail is None else tuple(tail)
        self._tail: tuple[nn.Module, ...] | None = None
        self._dropout: InjectedDropout | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def forward(self, images: Float[Tensor, "B channel *space"]) -> SegmenterState:
        """The one differentiable pass."""
        images, network = moved(images, self.device), self._network()
        if self._tail is None:
            self._tail = self._find_tail(images[:1])
        if not self._tail:
            return SegmenterState(self._checked(_passed(network, images), images))
        with _watched(self._tail[0]) as seen:
            logits = self._checked(_passed(network, images), images)
        tail_input, precision = seen[0]
        return SegmenterState(logits, tail_input.detach(), precision)

    def logits(self, images: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B C *space"]:
        """Logits of a batch, without a graph."""
        with torch.no_grad():
            images = moved(images, self.device)
            return self._checked(_passed(self._network(), images), images)

    def dropout_logits(
        self, state: State, count: int, rate: float | None, seeds: Sequence[int]
    ) -> Float[Tensor, "S B C *space"] | None:
        """``count`` stochastic reruns of the last stage; None where that stage has no dropout.

        Args:
            state: of this policy's forward pass.
            count: number S of samples.
            rate: dropout probability; None keeps the network's own.
            seeds: one per image; it determines the image's masks, whatever else is in the batch.
        """
        assert isinstance(state, SegmenterState)
        places = [place for part in self._tail or () for place in dropout_places(part, rate)]
        if state.tail_input is None or not any(place.rate > 0 for place in places):
            return None
        samples, dropout = [], SeededDropout()
        layers = [place.module for place in places]
        with torch.no_grad(), _training(layers), keyed_dropout(places, dropout):
            for number in range(count):
                dropout.seeds = image_seeds(seeds, number)
                # Layers that work in place must not reach what the update's graph holds.
                tail_input = state.tail_input.clone()
                sample = _run(self._tail or (), tail_input, state.tail_precision)
                samples.append(self.logits_of(sample).to(state.logits.dtype))
        return torch.stack(samples)

    def logits_of(self, output: Any) -> Any:
        """Logits ``[B, C, *space]`` of what the network gives; the place for a subclass to change them.

        Deep supervision heads only propose; the first output is the full-size one.
        """
        return output[0] if isinstance(output, list | tuple) and output else output

    def stochastic_logits(
        self,
        images: Float[Tensor, "B channel *space"],
        rate: float,
        seeds: Sequence[int],
        kind: DropoutKind = "element",
    ) -> Float[Tensor, "B C *space"] | None:
        """One pass of the whole network with dropout after every block; None where it has no block.

        Args:
            images: the batch.
            rate: dropout probability, also of the network's own dropout layers.
            seeds: one per image; it determines the image's masks.
            kind: what is dropped together: ``element`` or ``channel``.
        """
        if self._dropout is None:
            self._dropout = InjectedDropout(self._inner, moved(images[:1], self.device))
        if not (self._dropout.blocks or self._dropout.own_layers):
            return None
        with self._dropout.active(rate, seeds, kind):
            return self.logits(images)

    def learn(self, parts: Sequence[str] | None = None) -> None:
        """Let these submodules learn and freeze the others; the whole network where None."""
        learn_parts(self.network, parts)

    def prepare(self, dataset: Dataset, cache: Cache | None = None) -> None:
        """Nothing: a segmenter needs the image alone."""

    def leaves_out(self, images: Float[Tensor, "B channel *space"]) -> bool:
        """Whether some weights that learn have no part in the logits (heads of deep supervision).

        Args:
            images: any that the network takes.
        """
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        logits = self._checked(self._inner(images), images).float()
        found = torch.autograd.grad(logits.sum(), weights, allow_unused=True)
        return any(gradient is None for gradient in found)

    def viewed(self, images: Float[Tensor, "B channel *space"], state: State) -> SegmenterState:
        """The differentiable pass on a view: of an image like any other."""
        return self.forward(images)

    def digest(self) -> str:
        """Hash of the weights."""
        return weights_digest(self.network.state_dict())

    @property
    def _inner(self) -> nn.Module:
        """The network itself, whatever wraps it."""
        return getattr(self.network, "module", self.network)

    def _network(self) -> nn.Module:
        """What a pass goes through: with a graph what several processes wrap around the network.

        That wrapper lets the processes talk at every pass, whose number need not be the same for all
        where nothing is learned.
        """
        return self.network if torch.is_grad_enabled() else self._inner

    def _checked(self, output: Any, images: Tensor) -> Tensor:
        logits = self.logits_of(output)
        if not isinstance(logits, Tensor):
            raise SegprefError(
                f"the network gives a {type(logits).__name__} where a tensor of logits is needed: wrap "
                "it in a module that returns the logits"
            )
        expected = (len(images), self.label_space.channels, *images.shape[2:])
        if tuple(logits.shape) != expected:
            raise SegprefError(
                f"the network gives logits of shape {tuple(logits.shape)} where {expected} is needed: "
                "check its number of outputs and that its output is as large as its input"
            )
        return logits

    def _find_tail(self, image: Tensor) -> tuple[nn.Module, ...]:
        """Submodules that turn one tensor into the logits, checked by running them."""
        if self._tail_names is not None:
            try:
                tail = tuple(self._inner.get_submodule(name) for name in self._tail_names)
            except AttributeError as error:
                raise SegprefError(
                    f"the network has no submodule {error}: name its last stage as "
                    "`dict(network.named_modules())` does"
                ) from error
        else:
            tail = _trace_tail(self._inner, image)
        if tail and not _reproduces(self._inner, tail, image):
            if self._tail_names is None:
                return ()
            raise SegprefError(
                f"the submodules {', '.join(self._tail_names)} do not give the network's logits when "
                "they run one after the other: name the last decoder stage and the head"
            )
        return tail


def _passed(network: nn.Module, images: Tensor) -> Any:
    """What a network gives for images; that it can't take them is said in a sentence."""
    try:
        return network(images)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if ran_out(error):
            raise
        shape, reason = " x ".join(map(str, images.shape[2:])), " ".join(str(error).split())
        raise SegprefError(
            f"the network can't take images of {shape} voxels and {images.shape[1]} channels "
            f"({reason[:200]}): give the model's preparation a size or a patch in multiples of 32, or "
            "choose a network that suits the data"
        ) from error


def _full_size(output: Any) -> Any:
    return output[0] if isinstance(output, list | tuple) and output else output


def _trace_tail(network: nn.Module, image: Tensor) -> tuple[nn.Module, ...]:
    """Walk back from the logits to the last stage that holds a dropout layer.

    A part belongs to the chain when its output is the same tensor that the next part takes. The
    outermost such module that is not fed the image itself is taken: the whole last decoder stage.
    """
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            return
        # What gives back its very input (nn.Identity) would be met again and again on the way back.
        if output is not inputs[0] or isinstance(module, DROPOUT):
            calls.append((module, inputs[0], output))

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            logits = _full_size(network(image))
    finally:
        for hook in hooks:
            hook.remove()
    calls = [call for call in calls if call[1] is not image]
    wanted = logits
    if not any(call[2] is logits for call in calls):
        # Under mixed precision the network hands out a float32 copy of its head's output.
        wanted = next((out for _, _, out in reversed(calls) if _same(out, logits)), logits)
    tail: list[nn.Module] = []
    while not any(isinstance(m, DROPOUT) for part in tail for m in part.modules()):
        # Hooks fire inner modules first, so the last match is the outermost.
        found = [call for call in calls if call[2] is wanted]
        if not found:
            return ()
        module, wanted, _ = found[-1]
        tail.insert(0, module)
    return tuple(tail)


def _reproduces(network: nn.Module, tail: Sequence[nn.Module], image: Tensor) -> bool:
    with torch.no_grad():
        with _watched(tail[0]) as seen:
            expected = _full_size(network(image))
        if len(seen) != 1:
            return False
        return _same(_run(tail, *seen[0]), expected)


def _same(output: Tensor, logits: Tensor) -> bool:
    return torch.equal(output.to(logits.dtype), logits)


def _run(tail: Sequence[nn.Module], tail_input: Tensor, precision: torch.dtype | None) -> Tensor:
    result = tail_input
    with torch.autocast(tail_input.device.type, precision, enabled=precision is not None):
        for part in tail:
            result = part(result)
    return result


@contextmanager
def _watched(module: nn.Module) -> Iterator[list[tuple[Tensor, torch.dtype | None]]]:
    """What goes into the module, and the mixed precision that it runs under."""
    seen: list[tuple[Tensor, torch.dtype | None]] = []

    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        kind = inputs[0].device.type
        mixed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        seen.append((inputs[0], mixed))

    hook = module.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def _training(layers: Sequence[nn.Module]) -> Iterator[None]:
    before = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.train()
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.train(training)
