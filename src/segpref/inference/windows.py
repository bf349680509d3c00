"""Whole images of any size: padded to what the network takes, or in sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from segpref.data.prepared import ImagePreparation
from segpref.inference.sliding import WindowedNetwork
from segpref.networks import DropoutKind
from segpref.policies import SegmenterState, TunablePolicy, load_model
from segpref.policies.capabilities import AnySize, CasePredictor, own_prediction
from segpref.types import Policy, Predictor, SegprefError, State

__all__ = [
    "PaddedImages",
    "WholeImages",
    "WholeNetwork",
    "WindowedNetwork",
    "whole_images",
    "whole_model",
    "whole_network",
]


@dataclass(frozen=True)
class WholeNetwork:
    """A model that predicts whole images in a way of its own.

    Args:
        model: what predicts.
        batch_size: slices (2D) that it is given at once.
    """

    model: Predictor
    batch_size: int = 8

    def __call__(
        self, images: Float[Tensor, "item channel *grid"]
    ) -> Float[Tensor, "item C *grid"]:
        """Logits of prepared images."""
        return self.model.logits(images)

    def together(self, grid: Sequence[int]) -> int:
        """One: what goes its own way may look at what it is given as a whole."""
        return 1


class WholeImages:
    """A policy of whole prepared images, without gradients, for a network that sees patches.

    The network is used as it is at the moment of the call, so it can be validated while it is tuned.

    Args:
        model: what predicts patches.
        preparation: of the images, with a patch.
        batch_size: windows that go through the network at once.
    """

    def __init__(
        self, model: TunablePolicy, preparation: ImagePreparation, batch_size: int = 4
    ) -> None:
        self.label_space = model.label_space
        self._model, self._patch = model, preparation.patch
        self._network = WindowedNetwork(model, preparation, batch_size=batch_size)

    def logits(self, images: Float[Tensor, "B channel *grid"]) -> Float[Tensor, "B C *grid"]:
        """Logits by windows that overlap by half, weighted by a Gaussian."""
        return self._network(images)

    def forward(self, images: Float[Tensor, "B channel *grid"]) -> SegmenterState:
        """The same as a state: slates of whole images are made from it."""
        return SegmenterState(self.logits(images))

    def dropout_logits(
        self, state: State, count: int, rate: float | None, seeds: Sequence[int]
    ) -> None:
        """None: windows have no last stage in common that could be run again."""

    def digest(self) -> str:
        """Name of the weights and of the windows."""
        return f"{self._model.digest()} {self._patch}"


class PaddedImages:
    """A segmenter of images that are as large as they are, padded where it can't halve their sides.

    The network is used as it is at the moment of the call, so it can be validated while it is tuned.

    Args:
        model: what predicts.
        preparation: of the images, without patch, crop and size.
    """

    def __init__(self, model: AnySize, preparation: ImagePreparation) -> None:
        self.label_space = model.label_space
        self._model = model
        self._network = WindowedNetwork(model, preparation)

    def logits(self, images: Float[Tensor, "B channel *grid"]) -> Float[Tensor, "B C *grid"]:
        """Logits of whole images."""
        return self._network(images)

    def forward(self, images: Float[Tensor, "B channel *grid"]) -> State:
        """The model's own state, but of images that must be padded the logits alone."""
        padded, inner = self._network.fitted(images)
        state = self._model.forward(padded)
        return state if padded is images else SegmenterState(state.logits[inner])

    def dropout_logits(
        self, state: State, count: int, rate: float | None, seeds: Sequence[int]
    ) -> Float[Tensor, "S B C *grid"] | None:
        """The model's, and so None of images that must be padded."""
        return self._model.dropout_logits(state, count, rate, seeds)

    def stochastic_logits(
        self,
        images: Float[Tensor, "B channel *grid"],
        rate: float,
        seeds: Sequence[int],
        kind: DropoutKind = "element",
    ) -> Float[Tensor, "B C *grid"] | None:
        """The model's, of padded images."""
        padded, inner = self._network.fitted(images)
        logits: Tensor | None = self._model.stochastic_logits(padded, rate, seeds, kind)
        return None if logits is None else logits[inner]

    def digest(self) -> str:
        """Name of the weights."""
        return self._model.digest()


def whole_images(
    models: Sequence[TunablePolicy],
    preparation: ImagePreparation,
    mirroring: Sequence[int] = (),
) -> Policy:
    """The policy of whole prepared images: the model's own, or itself where it takes them as they are.

    A network that sees patches slides over them, and images of no fixed size are padded where need be.

    Args:
        models: one; or several that predict together, such as the folds of nnU-Net.
        preparation: of the images.
        mirroring: axes over which the model's format mirrors images; none where empty.
    """
    own = own_prediction(models, preparation, mirroring)
    if own is not None:
        return own
    (model,) = models
    if preparation.patch is not None:
        return WholeImages(model, preparation)
    fixed = preparation.size or preparation.crop
    if isinstance(model, AnySize) and model.any_size and not fixed:
        return PaddedImages(model, preparation)
    return model


def whole_network(
    models: Sequence[Predictor],
    preparation: ImagePreparation,
    mirroring: Sequence[int] = (),
    patch: Sequence[int] | None = None,
    overlap: float = 0.5,
    batch_size: int = 8,
) -> WindowedNetwork | WholeNetwork | CasePredictor:
    """What predicts new images: in windows, or in the models' own way.

    Args:
        models: one; or several that predict together, such as the folds of nnU-Net.
        preparation: of the images.
        mirroring: axes over which the model's format mirrors images; none where empty.
        patch: as in :class:`WindowedNetwork`.
        overlap: of neighbouring windows, as a share of the patch.
        batch_size: items or windows that go through the network at once.

    Raises:
        SegprefError: a patch for a model with a way of its own, or settings out of range.
    """
    own = own_prediction(models, preparation, mirroring, overlap)
    if own is None:
        return WindowedNetwork(models[0], preparation, patch, overlap, batch_size)
    if patch is not None:
        raise SegprefError(
            "this model goes over whole images in a way of its own (nnU-Net by its plans): leave patch "
            "out"
        )
    return own if isinstance(own, CasePredictor) else WholeNetwork(own, batch_size)


def whole_model(path: Path | str) -> Policy:
    """The policy of whole prepared images of segpref's own file or run folder.

    As while it is trained: without the mirrored views of an nnU-Net, which take several times as long.
    """
    model, card = load_model(path)
    return whole_images([model], card.preparation)
