"""Whole images of any size: padded to what the network takes, or in sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from monai.inferers import sliding_window_inference
from torch import Tensor

from segpref.data.preparation import ImagePreparation
from segpref.memory import ran_out
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

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)


class WindowedNetwork:
    """A model that takes images of any size.

    Args:
        model: what predicts.
        preparation: of its input.
        patch: voxels of the windows that slide over images larger than that; the preparation's where
            None, and whole images where that has none.
        overlap: of neighbouring windows, as a share of the patch.
        batch_size: items or windows that go through the network at once.

    Raises:
        SegprefError: a patch for a model whose input has a fixed size, or settings out of range.
    """

    def __init__(
        self,
        model: Predictor,
        preparation: ImagePreparation,
        patch: Sequence[int] | None = None,
        overlap: float = 0.5,
        batch_size: int = 8,
    ) -> None:
        self.batch_size = batch_size
        self._model, self._preparation, self._overlap = model, preparation, overlap
        self._patch = preparation.patch if patch is None else tuple(patch)
        self._multiple = 1
        self._taken: set[tuple[int, ...]] = set()
        if not 0 <= overlap < 1 or batch_size < 1:
            raise SegprefError(
                f"overlap must be from 0 to below 1 and batch_size at least 1, not {overlap} and "
                f"{batch_size}"
            )
        if patch is not None:
            _check_patch(tuple(patch), preparation)

    def __call__(
        self, images: Float[Tensor, "item channel *grid"]
    ) -> Float[Tensor, "item C *grid"]:
        """Logits of prepared images; each is padded with its own lowest intensity, as in training."""
        lowest = self._outside(images)
        if self._patch is None:
            return self._pass(images, lowest)
        full = tuple(max(n, m) for n, m in zip(images.shape[2:], self._patch, strict=True))
        padded, inner = _padded(images, full, lowest)
        if full == self._patch:
            return self._pass(padded, lowest)[inner]
        parts = [self._slide(*one)[inner] for one in zip(padded, lowest, strict=True)]
        # Joining one would copy it, and it may be large.
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def fitted(
        self, images: Float[Tensor, "item channel *grid"]
    ) -> tuple[Float[Tensor, "item channel *full"], tuple[slice, ...]]:
        """Whole images padded to what the network takes, and where they lie in that.

        Raises:
            SegprefError: the network can't take them, however they are padded.
        """
        lowest, shape = self._outside(images), tuple(images.shape[2:])
        if shape not in self._taken:
            self._pass(images[:1], lowest[:1])
        return _padded(images, _rounded_up(shape, self._multiple), lowest)

    def _outside(self, images: Tensor) -> Float[Tensor, "item channel"]:
        return torch.from_numpy(
            np.stack([self._preparation.outside(one.numpy()) for one in images])
        )

    def _slide(
        self, image: Float[Tensor, "channel *grid"], lowest: Float[Tensor, " channel"]
    ) -> Float[Tensor, "1 C *grid"]:
        assert self._patch is not None
        logits = sliding_window_inference(
            image[None],
            self._patch,
            self.batch_size,
            lambda windows: self._pass(windows, lowest.expand(len(windows), -1)).to(windows.device),
            overlap=self._overlap,
            mode="gaussian",
        )
        assert isinstance(logits, Tensor)
        return logits

    def _pass(
        self, images: Float[Tensor, "item channel *grid"], lowest: Float[Tensor, "item channel"]
    ) -> Float[Tensor, "item C *grid"]:
        """One pass, with the input padded to a multiple that the network takes.

        How often a network halves its input is nowhere to be read, so it is tried out, once.
        """
        shape, reason = tuple(images.shape[2:]), ""
        for multiple in _MULTIPLES:
            if multiple < self._multiple:
                continue
            padded, inner = _padded(images, _rounded_up(shape, multiple), lowest)
            try:
                logits = self._model.logits(padded)
            except (RuntimeError, ValueError, SegprefError) as error:
                if ran_out(error):
                    raise
                reason = reason or " ".join(str(error).split())
                continue
            self._multiple = multiple
            self._taken.add(shape)
            return logits[inner]
        raise SegprefError(
            f"the network can't take an input of {' x '.join(map(str, shape))} voxels, however it is "
            f"padded ({reason[:200]}): give a patch, or set size in the preparation and train again"
        )


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
    models: Sequence[TunablePolicy],
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
    """
    own = own_prediction(models, preparation, mirroring, overlap)
    if own is None:
        return WindowedNetwork(models[0], preparation, patch, overlap, batch_size)
    return own if isinstance(own, CasePredictor) else WholeNetwork(own, batch_size)


def whole_model(path: Path | str) -> Policy:
    """The policy of whole prepared images of segpref's own file or run folder.

    As while it is trained: without the mirrored views of an nnU-Net, which take several times as long.
    """
    model, card = load_model(path)
    return whole_images([model], card.preparation)


def _check_patch(patch: tuple[int, ...], preparation: ImagePreparation) -> None:
    if len(patch) != preparation.dims or min(patch) < 1:
        raise SegprefError(
            f"patch needs {preparation.dims} positive numbers for this {preparation.dims}D model, not "
            f"{patch}"
        )
    if fixed := preparation.size or preparation.crop:
        raise SegprefError(
            f"the model always sees its whole input of {' x '.join(map(str, fixed))} voxels: leave "
            "patch out"
        )


def _rounded_up(shape: Sequence[int], multiple: int) -> tuple[int, ...]:
    return tuple(-(-n // multiple) * multiple for n in shape)


def _padded(
    images: Float[Tensor, "item channel *grid"],
    shape: Sequence[int],
    values: Float[Tensor, "item channel"],
) -> tuple[Tensor, tuple[slice, ...]]:
    """Images in the middle of a larger grid, and where they lie in it; of an equal one themselves."""
    old = tuple(images.shape[2:])
    begins = [(new - n) // 2 for n, new in zip(old, shape, strict=True)]
    inner = (slice(None), slice(None), *(slice(b, b + n) for b, n in zip(begins, old, strict=True)))
    if tuple(shape) == old:
        return images, inner
    level = values.to(images).reshape(*images.shape[:2], *[1] * len(old))
    canvas = level.repeat(1, 1, *shape)
    canvas[inner] = images
    return canvas, inner
