"""Segmenters as policies: any network that maps an image to logits of the same size.

Such a policy factorises over pixels, so its log-ratio map is linear in the logits and the reference
enters only through logits that are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.memory import ran_out
from segpref.networks import (
    Compiled,
    DropoutKind,
    InjectedDropout,
    Tail,
    TailPass,
    find_tail,
    full_size,
    weights_digest,
)
from segpref.policies.tunable import learn_parts
from segpref.runtime import moved
from segpref.types import LabelSpace, SegprefError, State

__all__ = ["Segmenter", "SegmenterState"]


@dataclass(frozen=True, slots=True)
class SegmenterState:
    """Logits with their graph, and what the pass left for reruns of the network's last stage."""

    logits: Float[Tensor, "B C *space"]
    tail: TailPass | None = None


class Segmenter:
    """A network as a policy.

    The network stays in evaluation mode, so that dropout and normalisation statistics are frozen
    while it is updated; Monte-Carlo dropout reruns only the last stage from its first dropout layer on,
    on what the one differentiable pass left there.

    Args:
        network: maps ``[B, channel, *space]`` to logits ``[B, C, *space]``.
        label_space: what the C outputs mean.
        tail: names of the submodules that make up the last decoder stage and head, in the order in
            which they run; found by itself where None.
    """

    any_size = True
    compiles = True

    def __init__(
        self, network: nn.Module, label_space: LabelSpace, tail: Sequence[str] | None = None
    ) -> None:
        self.network = network.eval()
        self.label_space = label_space
        self._tail_names = None if tail is None else tuple(tail)
        self._tail: Tail | None = None
        self._traced = False
        self._dropout: InjectedDropout | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def forward(self, images: Float[Tensor, "B channel *space"]) -> SegmenterState:
        """The one differentiable pass."""
        images, network = moved(images, self.device), self._network()
        if not self._traced:
            self._tail = find_tail(self._inner, images[:1], self._tail_names)
            self._traced = True
            if self._tail is not None and isinstance(network, Compiled):
                self._tail.stay()
        if self._tail is None:
            return SegmenterState(self._checked(_passed(network, images), images))
        with self._tail.watched() as seen:
            logits = self._checked(_passed(network, images), images)
        return SegmenterState(logits, seen[0])

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
        if self._tail is None or state.tail is None:
            return None
        samples = [
            self.logits_of(sample).to(state.logits.dtype)
            for sample in self._tail.samples(state.tail, count, rate, seeds)
        ]
        return torch.stack(samples) if samples else None

    def logits_of(self, output: Any) -> Any:
        """Logits ``[B, C, *space]`` of what the network gives; the place for a subclass to change them.

        Deep supervision heads only propose; the first output is the full-size one.
        """
        return full_size(output)

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
        return weights_digest(self._inner.state_dict())

    @property
    def _inner(self) -> nn.Module:
        """The network itself, whatever wraps it."""
        return getattr(self.network, "module", self.network)

    def _network(self) -> nn.Module:
        """What a pass goes through: with a graph what several processes wrap around the network.

        That wrapper lets the processes talk at every pass, whose number need not be the same for all
        where nothing is learned. Compiled, a network sees to this itself.
        """
        if isinstance(self.network, Compiled):
            return self.network
        return self.network if torch.is_grad_enabled() else self._inner

    def _checked(self, output: Any, images: Tensor) -> Tensor:
        logits = self.logits_of(output)
        if isinstance(logits, Tensor) and logits.ndim == 2:
            raise SegprefError(
                f"the network gives an output of shape {tuple(logits.shape)} for images of "
                f"{tuple(images.shape)}, as classifiers do: segpref takes networks for segmentation, "
                "which give one logit for every voxel and structure"
            )
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
