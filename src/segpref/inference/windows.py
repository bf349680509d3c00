"""Whole images of any size: padded to what the network takes, or in sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from monai.inferers import sliding_window_inference
from torch import Tensor

from segpref.data.preparation import ImagePreparation
from segpref.policies import SegmenterState, TunablePolicy, load_model
from segpref.policies.nnunet.prediction import NnUNetPrediction
from segpref.policies.nnunet.preparation import NnUNetPreparation
from segpref.types import Policy, Predictor, SegprefError, State

__all__ = ["WholeImages", "WindowedNetwork", "whole_images", "whole_model"]

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
        self._model, self._overlap = model, overlap
        self._patch = preparation.patch if patch is None else tuple(patch)
        self._multiple = 1
        if not 0 <= overlap < 1 or batch_size < 1:
            raise SegprefError(
                f"overlap must be from 0 to below 1 and batch_size at least 1, not {overlap} and "
                f"{batch_size}"
            )
        if patch is not None:
            _check_patch(tuple(patch), preparation)

    def __call__(
        self, images: Float[Tensor, "item channel *grid"], lowest: Float[Tensor, " channel"]
    ) -> Float[Tensor, "item C *grid"]:
        """Logits of prepared images; ``lowest`` is what they are padded with, as in training."""
        if self._patch is None:
            return self._pass(images, lowest)
        full = tuple(max(n, m) for n, m in zip(images.shape[2:], self._patch, strict=True))
        padded, inner = _padded(images, full, lowest)
        if full == self._patch:
            return self._pass(padded, lowest)[inner]
        logits = sliding_window_inference(
            padded,
            self._patch,
            self.batch_size,
            lambda windows: self._pass(windows, lowest).to(windows.device),
            overlap=self._overlap,
            mode="gaussian",
        )
        assert isinstance(logits, Tensor)
        return logits[inner]

    def _pass(
        self, images: Float[Tensor, "item channel *grid"], lowest: Float[Tensor, " channel"]
    ) -> Float[Tensor, "item C *grid"]:
        """One pass, with the input padded to a multiple that the network takes.

        How often a network halves its input is nowhere to be read, so it is tried out, once.
        """
        shape, reason = tuple(images.shape[2:]), ""
        for multiple in _MULTIPLES:
            if multiple < self._multiple:
                continue
            full = tuple(-(-n // multiple) * multiple for n in shape)
            padded, inner = _padded(images, full, lowest)
            try:
                logits = self._model.logits(padded)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError, SegprefError) as error:
                reason = reason or " ".join(str(error).split())
                continue
            self._multiple = multiple
            return logits[inner]
        raise SegprefError(
            f"the network can't take an input of {' x '.join(map(str, shape))} voxels, however it is "
            f"padded ({reason[:200]}): give a patch, or set size in the preparation and train again"
        )


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
        self._model, self._preparation = model, preparation
        self._network = WindowedNetwork(model, preparation, batch_size=batch_size)

    def logits(self, images: Float[Tensor, "B channel *grid"]) -> Float[Tensor, "B C *grid"]:
        """Logits by windows that overlap by half, weighted by a Gaussian."""
        parts = []
        for image in images:
            lowest = torch.from_numpy(self._preparation.outside(image.numpy()))
            parts.append(self._network(image[None], lowest))
        # Joining one would copy it, and it may be large.
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def forward(self, images: Float[Tensor, "B channel *grid"]) -> SegmenterState:
        """The same as a state: slates of whole images are made from it."""
        return SegmenterState(self.logits(images))

    def dropout_logits(self, state: State, count: int, rate: float | None, seed: int) -> None:
        """None: windows have no last stage in common that could be run again."""

    def digest(self) -> str:
        """Name of the weights and of the windows."""
        return f"{self._model.digest()} {self._preparation.patch}"


def whole_images(
    models: Sequence[TunablePolicy],
    preparation: ImagePreparation,
    mirroring: Sequence[int] = (),
) -> Policy:
    """The policy of whole prepared images: the model itself, unless its network sees patches.

    Args:
        models: one; or several of nnU-Net's, whose logits are averaged.
        preparation: of the images.
        mirroring: axes over which nnU-Net mirrors; none where empty.
    """
    if isinstance(preparation, NnUNetPreparation):
        return NnUNetPrediction(preparation, models, mirroring)
    (model,) = models
    return model if preparation.patch is None else WholeImages(model, preparation)


def whole_model(path: Path | str) -> Policy:
    """The policy of whole prepared images of segpref's own file or run folder."""
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


def _padded(
    images: Float[Tensor, "item channel *grid"],
    shape: Sequence[int],
    values: Float[Tensor, " channel"],
) -> tuple[Tensor, tuple[slice, ...]]:
    """Images in the middle of a larger grid, and where they lie in it."""
    old = tuple(images.shape[2:])
    begins = [(new - n) // 2 for n, new in zip(old, shape, strict=True)]
    inner = (slice(None), slice(None), *(slice(b, b + n) for b, n in zip(begins, old, strict=True)))
    if tuple(shape) == old:
        return images, inner
    level = values.to(images).reshape(1, -1, *[1] * len(old))
    canvas = level.repeat(len(images), 1, *shape)
    canvas[inner] = images
    return canvas, inner
