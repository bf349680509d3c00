"""The student of semi-supervised training: the network that learns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.networks import SeededDropout
from segpref.seeds import image_seeds
from segpref.training.semisupervised.features import feature_layers, lost_channels

__all__ = ["Student"]


class Student:
    """The network that learns, in training mode.

    Args:
        network: as Accelerate wrapped it.
        dropout: of its dropout layers, whose seeds are set at every pass.
    """

    def __init__(self, network: nn.Module, dropout: SeededDropout | None = None) -> None:
        self.network = network
        self.dropout = dropout or SeededDropout()
        self._known: list[int] = []
        self._free: list[int] = []
        self._layers: list[nn.Module] | None = None

    def shown(self, labelled: Sequence[str], unlabelled: Sequence[str], seed: int) -> None:
        """Tell which images the step is about, by their ids: these and the seed determine dropout."""
        self._known, self._free = image_seeds(labelled, seed), image_seeds(unlabelled, seed)

    def __call__(self, images: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B C *space"]:
        """Logits, with their graph. One pass per step: processes can then average its gradients."""
        self.network.train()
        # After the labelled images come views of the others, once or several times.
        turns = range(len(images) // max(len(self._free), 1) + 1)
        views = [seed for turn in turns for seed in image_seeds(self._free, turn)]
        self.dropout.seeds = [*self._known, *views][: len(images)]
        output = self.network(images)
        # Deep supervision heads are not trained here; the first output is the full-size one.
        logits: Tensor = output[0] if isinstance(output, list | tuple) else output
        return logits

    def perturbed(
        self,
        images: Float[Tensor, "B channel *space"],
        rows: Sequence[int],
        rate: float,
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "B C *space"]:
        """The same pass, in which some images of the batch lose channels of their features.

        Args:
            images: the whole batch.
            rows: the images whose features are perturbed.
            rate: probability that a channel is set to zero; the others grow by ``1 / (1 - rate)``.
            generators: one per perturbed image, on the CPU.
        """
        if self._layers is None:
            # A network in processes is wrapped; its own forward is the one to watch.
            self._layers = feature_layers(getattr(self.network, "module", self.network), images[:1])
        with lost_channels(self._layers, rows, rate, generators):
            return self(images)
