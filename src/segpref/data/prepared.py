"""Network inputs, and what makes them from images and brings logits back to the images' voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.data.pictures import is_colour
from segpref.types import Case, SegprefError, Sliceable

__all__ = ["ImagePreparation", "Prepared", "check_prepared", "preparation_key"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The network inputs of one volume: one per slice in 2D, one in 3D.

    Args:
        images: float32 ``[item, channel, *space]``.
        labels: uint8 ``[item, field, *space]`` or None.
        spacing_mm: voxel size of the network's grid, or None where unknown.
        raters: uint8 ``[item, rater, field, *space]`` or None.
    """

    images: Float[np.ndarray, "item channel *space"]
    labels: UInt8[np.ndarray, "item field *space"] | None
    spacing_mm: tuple[float, ...] | None
    raters: UInt8[np.ndarray, "item rater field *space"] | None = None


class ImagePreparation(Protocol):
    """From a case as it is on disk to network input and back: ours, or nnU-Net's own."""

    @property
    def dims(self) -> int:
        """2 (a volume becomes its slices) or 3."""
        ...

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Voxel size that images are resampled to; None where they are not."""
        ...

    @property
    def crop(self) -> tuple[int, ...] | None:
        """Voxels of the part that the network sees, where it is fixed before images are resized."""
        ...

    @property
    def size(self) -> tuple[int, ...] | None:
        """Voxels of every network input, where they are fixed."""
        ...

    @property
    def patch(self) -> tuple[int, ...] | None:
        """Voxels of what the network sees at once, of images of any size."""
        ...

    def as_key(self) -> dict[str, Any]:
        """What identifies prepared arrays in the cache."""
        ...

    def apply(self, case: Case) -> Prepared:
        """Network inputs of a whole case."""
        ...

    def restore(
        self, logits: Float[Tensor, "item C *grid"], case: Case, outside: Float[Tensor, " C"]
    ) -> Float[Tensor, "C *space"]:
        """Logits on the case's own voxels; ``outside`` is what lies beyond the crop."""
        ...

    def outside(self, image: np.ndarray | Sliceable) -> Float[np.ndarray, " channel"]:
        """What a prepared image ``[channel, *grid]`` is padded with."""
        ...


def preparation_key(preparation: ImagePreparation, channels: Sequence[str]) -> dict[str, Any]:
    """What identifies arrays that are prepared from images of these channels."""
    key = preparation.as_key()
    # Colours are prepared in another way than before; everything else is what it was.
    if not is_colour(channels):
        key.pop("colour_range", None)
    return key


def check_prepared(images: Float[np.ndarray, "item channel *space"], name: object) -> None:
    """Refuse images that are not finite once they are scaled.

    Args:
        images: network inputs of an image.
        name: of the image, for the message.

    Raises:
        SegprefError: some number is NaN or infinite.
    """
    if not np.isfinite(images).all():
        raise SegprefError(
            f"{name} holds values that are too large to be scaled: replace extreme ones with what they "
            "stand for, such as the background's value, or give the preparation a window"
        )
