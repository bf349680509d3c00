"""The student of semi-supervised training: the network that learns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.training.semisupervised.features import feature_layers, lost_channels

__all__ = ["Student"]


class Student:
    """The network that learns, in training mode.

    Args:
        network: as Accelerate wrapped it.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._layers: list[nn.Module] | None = None

    def __call__(self, images: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B C *space"]:
        """Logits, with their graph. One pass per step: processes can then average its gradients."""
        self.network.train()
        output = self.network(images)
        # Deep supervision heads are not trained here; the first output is the full-size one.
        logits: Tensor = output[0] if isinstance(output, list | tuple) else output
        return logits

    def perturbed(
        self,
        images: Float[Tensor, "B channel *space"],
        rows: Sequence[int],
        rate: float,
        generator: torch.Generator,
    ) -> Float[Tensor, "B C *space"]:
        """The same pass, in which some images of the batch lose channels of their features.

        Args:
            images: the whole batch.
            rows: the images whose features are perturbed.
            rate: probability that a channel is set to zero; the others grow by ``1 / (1 - rate)``.
            generator: on the CPU.
        """
        if self._layers is None:
            # A network in processes is wrapped; its own forward is the one to watch.
            self._layers = feature_layers(getattr(self.network, "module", self.network), images[:1])
        with lost_channels(self._layers, rows, rate, generator):
            return self(images)
