"""From an image as it is on disk to network input, and from logits back to that image's voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from segpref.checking import checked
from segpref.data.intensities import Normalisation, normalised
from segpref.data.orientation import is_orientation, turned, turned_back
from segpref.data.prepared import Prepared
from segpref.data.resizing import Windows, overlap, resize, resized
from segpref.types import Case, SegprefError, Sliceable, whole_spacing

__all__ = ["Preparation"]


@checked()
@dataclass(frozen=True)
class Preparation:
    """How images become network input: turn, normalise, resample, crop or pad, resize - in this order.

    Intensities are normalised per volume and channel; the three channels of a colour picture share
    their range, so that colours keep their hue. Crops are central; padding takes the volume's
    lowest intensity. Images are resized linearly (with a low-pass filter when they shrink), labels by
    nearest neighbour. Everything but the crop is undone by :meth:`restore`; voxels outside the crop
    come back as background.

    Args:
        dims: 2 (a volume becomes its slices along the last axis) or 3.
        spacing_mm: resample to this voxel size first; needs images that know theirs.
        crop: central crop or padding to this many voxels.
        size: resize to this many voxels. Without it the network must take any size.
        normalise: ``min-max`` to 0..1, ``z-score``, ``z-score-nonzero`` (of what is not zero; zeros
            stay), ``percentile`` (0.5 and 99.5 to 0..1), ``window`` (its ends to 0..1, the same in
            every volume), ``none``.
        window: clip intensities to this range first (such as a CT window in HU).
        patch: voxels of what the network sees at once, of images of any size: it is trained on
            patches and slides over whole images. None for images of one size, seen as a whole.
        orientation: where the axes of volumes point to for the network, such as ``RAS``; the other
            settings are about the turned axes. None leaves them as they are on disk.
        colour_range: whether red, green and blue of a picture are normalised by what they have in
            common (``shared``), or each by its own range (``each``), as models of earlier versions were
            trained. Channels of other names, such as sequences of MR, always have ranges of their own.
    """

    dims: Literal[2, 3] = 2
    spacing_mm: tuple[float, ...] | None = None
    crop: tuple[int, ...] | None = None
    size: tuple[int, ...] | None = None
    normalise: Normalisation = "min-max"
    window: tuple[float, float] | None = None
    patch: tuple[int, ...] | None = None
    orientation: str | None = None
    colour_range: Literal["shared", "each"] = "shared"

    def __post_init__(self) -> None:
        if self.orientation is not None and not is_orientation(self.orientation):
            raise SegprefError(
                "orientation names where three axes point to, one letter of each pair L/R, P/A and "
                f"I/S, such as RAS, not {self.orientation}: correct it"
            )
        if self.window is not None and not self.window[0] < self.window[1]:
            raise SegprefError(f"window is from low to high, not {self.window}: correct it")
        if self.normalise == "window" and self.window is None:
            raise SegprefError("to normalise by a window, the preparation needs one: give window")
        if self.patch is not None and (self.size or self.crop):
            raise SegprefError(
                "the network sees patches of images of any size, or whole images of one size: give the "
                "preparation a patch, or a size or crop, not both"
            )
        for name in ("spacing_mm", "crop", "size", "patch"):
            value = getattr(self, name)
            if value is None:
                continue
            if len(value) != self.dims or min(value) <= 0:
                raise SegprefError(
                    f"{name} needs {self.dims} positive numbers in {self.dims}D, got {value}"
                )

    def as_key(self) -> dict[str, Any]:
        """What identifies prepared arrays in the cache: the patch changes none of them."""
        key = {name: _plain(value) for name, value in asdict(self).items()}
        del key["patch"]
        # What was prepared before there were such settings stays valid.
        if not self.orientation:
            del key["orientation"]
        if self.colour_range == "each":
            del key["colour_range"]
        return key

    def outside(self, image: np.ndarray | Sliceable) -> Float[np.ndarray, " channel"]:
        """What a prepared image is padded with: its lowest intensity, as where it is cropped."""
        return np.array([image[channel].min() for channel in range(image.shape[0])])

    @classmethod
    def from_key(cls, key: dict[str, Any]) -> Preparation:
        """The preparation back from :meth:`as_key`."""
        settings: dict[str, Any] = {"colour_range": "each"} | {
            name: tuple(value) if isinstance(value, list) else value for name, value in key.items()
        }
        return cls(**settings)

    def apply(self, case: Case) -> Prepared:
        """Network inputs of a whole case."""
        case = turned(case, self.orientation)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is refused
            together = case.colour and self.colour_range == "shared"
            image = normalised(case.image, self.normalise, self.window, together)
        images = self._items(image, case)
        labels = None if case.label is None else self._items(case.label, case)
        shape, spacing = images.shape[2:], self._item_spacing(case)
        resampled = self._resampled_shape(shape, case)
        pad = image.min(axis=tuple(range(1, image.ndim)))
        images = self._forward(images, resampled, pad)
        if labels is not None:
            labels = self._forward(labels, resampled, None)
        if spacing is not None:
            grid = self.crop or resampled
            spacing = tuple(
                step * old / new * (middle / after)
                for step, old, new, middle, after in zip(
                    spacing, shape, resampled, grid, self.size or grid, strict=True
                )
            )
        raters = None if case.raters is None else self._rated(case.raters, case, resampled)
        return Prepared(np.ascontiguousarray(images), labels, spacing, raters)

    def restore(
        self, logits: Float[Tensor, "item C *grid"], case: Case, outside: Float[Tensor, " C"]
    ) -> Float[Tensor, "C *space"]:
        """Logits on the case's own voxels; ``outside`` is what lies beyond the crop."""
        own, case = case, turned(replace(case, label=None, raters=None), self.orientation)
        shape = self._items(case.image, case).shape[2:]
        resampled = self._resampled_shape(shape, case)
        if self.size is not None:
            logits = resize(logits, self.crop or resampled)
        if self.crop is not None:
            canvas = outside.reshape(1, -1, *[1] * self.dims).repeat(len(logits), 1, *resampled)
            inner, outer = self._windows(shape, resampled)
            canvas[:, :, *inner] = logits[:, :, *outer]
            logits = canvas
        logits = resize(logits, shape)
        sliced = self.dims == 2 and case.image.ndim == 4
        return turned_back(logits.movedim(0, -1) if sliced else logits[0], own, self.orientation)

    def count(self, case: Case) -> int:
        """How many network inputs a case is: its slices in 2D, one in 3D."""
        return len(self._items(turned(case, self.orientation).image, case))

    def around(self, centre: Sequence[float]) -> Preparation:
        """The same with its crop about a place in the image, in place of its middle.

        Along axes on which the image is larger than the crop, the crop stays within the image.

        Args:
            centre: of the crop, in voxels of the image as it is on disk, from 0, one number per axis.

        Raises:
            SegprefError: no crop, or another number of axes.
        """
        if self.crop is None:
            raise SegprefError(
                "this preparation takes images whole, so there is no crop to move: leave the centre out"
            )
        if self.orientation is not None:
            raise SegprefError(
                "the crop of a preparation that turns images can't be moved: leave the centre out"
            )
        if len(centre) != self.dims:
            raise SegprefError(
                f"the centre of a crop needs {self.dims} numbers in {self.dims}D, got {tuple(centre)}"
            )
        return _Around(**{**vars(self), "centre": tuple(centre)})

    def _windows(self, shape: tuple[int, ...], resampled: tuple[int, ...]) -> Windows:
        """Where the crop lies in the resampled image, and where that lies in the crop."""
        assert self.crop is not None
        return overlap(resampled, self.crop)

    def _items(self, array: np.ndarray, case: Case) -> np.ndarray:
        space = array.ndim - 1
        if space == self.dims:
            return array[None]
        if space == 3 and self.dims == 2:
            return np.moveaxis(array, -1, 0)
        raise SegprefError(
            f"{case.id} has {space} spatial axes but the preparation is for {self.dims}D: "
            f"set dims to {space}, or use other images"
        )

    def _rated(
        self, raters: UInt8[np.ndarray, "rater field *space"], case: Case, shape: tuple[int, ...]
    ) -> UInt8[np.ndarray, "item rater field *grid"]:
        """Masks of raters as labels are: every rater's fields are fields of one mask."""
        flat = raters.reshape(-1, *raters.shape[2:])
        items = self._forward(self._items(flat, case), shape, None)
        return items.reshape(len(items), *raters.shape[:2], *items.shape[2:])

    def _item_spacing(self, case: Case) -> tuple[float, ...] | None:
        return whole_spacing(case.spacing_mm, self.dims)

    def _resampled_shape(self, shape: tuple[int, ...], case: Case) -> tuple[int, ...]:
        if self.spacing_mm is None:
            return shape
        spacing = self._item_spacing(case)
        if spacing is None:
            raise SegprefError(
                f"{case.id} does not state its voxel size, so it can't be resampled to "
                f"{self.spacing_mm} mm: leave spacing_mm out, or use files with a voxel size"
            )
        return tuple(
            max(1, round(n * old / new))
            for n, old, new in zip(shape, spacing, self.spacing_mm, strict=True)
        )

    def _forward(
        self, items: np.ndarray, resampled: tuple[int, ...], pad: np.ndarray | None
    ) -> np.ndarray:
        shape = items.shape[2:]
        items = resized(items, resampled)
        if self.crop is not None:
            canvas = np.zeros((*items.shape[:2], *self.crop), items.dtype)
            if pad is not None:
                canvas += pad.reshape(1, -1, *[1] * self.dims)
            inner, outer = self._windows(shape, resampled)
            canvas[:, :, *outer] = items[:, :, *inner]
            items = canvas
        return resized(items, self.size or items.shape[2:])


@dataclass(frozen=True)
class _Around(Preparation):
    """A preparation whose crop lies about ``centre``, see :meth:`Preparation.around`."""

    centre: tuple[float, ...] = ()

    def _windows(self, shape: tuple[int, ...], resampled: tuple[int, ...]) -> Windows:
        assert self.crop is not None
        # Resampling maps edges to edges, and voxel p reaches from p - 1/2 to p + 1/2. Between two
        # voxels the first is taken, as in the middle of an image.
        starts = [
            math.ceil((place + 0.5) * new / old - side / 2 - 0.5)
            for place, new, old, side in zip(self.centre, resampled, shape, self.crop, strict=True)
        ]
        return overlap(resampled, self.crop, starts)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
