"""Sliding windows over images of any size, and images padded to what a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from operator import gt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.data.prepared import ImagePreparation
from segpref.late import late
from segpref.memory import ran_out
from segpref.runtime import runtime
from segpref.types import Predictor, SegprefError

__all__ = ["WindowedNetwork"]

inferers = late("monai.inferers")

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

    def together(self, grid: Sequence[int]) -> int:
        """How many images of this size go through the network at once; windows slide over one alone."""
        slides = self._patch is not None and any(map(gt, grid, self._patch))
        return 1 if slides else self.batch_size

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
        """Windows are cut and joined where the network is; in the computer's memory if that is full."""
        try:
            return self._joined(runtime().move(image[None]), lowest).to(image.device)
        except RuntimeError as error:
            if runtime().device.type == "cpu" or not ran_out(error):
                raise
        # Not while the error is handled, which holds what was on the device.
        return self._joined(image[None], lowest)

    def _joined(
        self, image: Float[Tensor, "1 channel *grid"], lowest: Float[Tensor, " channel"]
    ) -> Float[Tensor, "1 C *grid"]:
        assert self._patch is not None
        logits = inferers.sliding_window_inference(
            image,
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
        shape = tuple(images.shape[2:])
        first: Exception | None = None
        for multiple in _MULTIPLES:
            if multiple < self._multiple:
                continue
            padded, inner = _padded(images, _rounded_up(shape, multiple), lowest)
            try:
                logits = self._model.logits(padded)
            except (RuntimeError, ValueError, SegprefError) as error:
                if ran_out(error):
                    raise
                first = first or error
                continue
            self._multiple = multiple
            self._taken.add(shape)
            return logits[inner]
        if isinstance(first, SegprefError) and first.__cause__ is None:
            raise first  # it is the model's own, and not what its network said to some size
        reason = " ".join(str(first).split())
        raise SegprefError(
            f"the network can't take an input of {' x '.join(map(str, shape))} voxels, however it is "
            f"padded ({reason[:200]}): give a patch, or set size in the preparation and train again"
        )


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
