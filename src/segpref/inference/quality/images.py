"""How far an image is from those that a model was trained with: intensities, texture, voxel size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from segpref.inference.quality.shapes import robust_scale
from segpref.types import known_spacing

__all__ = ["CHECKS", "ImageFigures", "ImageReference", "figures_of"]

QUANTILES = np.linspace(0.05, 0.95, 19)

CHECKS = ("intensity", "texture", "spacing")
"""The three distances of :meth:`ImageReference.distances`."""


@dataclass(frozen=True)
class ImageFigures:
    """Statistics of an image as the network sees it, after its intensities are normalised.

    Args:
        quantiles: 5 %, 10 %, ..., 95 % of the intensities of each channel ``[channel, 19]``.
        texture: logarithm of the mean absolute difference of neighbours along two axes, relative to the
            standard deviation; noise raises it, blur lowers it. The first channel's.
        spacing_mm: voxel size of the file; None if unknown.
    """

    quantiles: Float[np.ndarray, "channel quantile"]
    texture: float
    spacing_mm: tuple[float, ...] | None


def figures_of(
    images: Float[np.ndarray, "item channel *space"], spacing_mm: Sequence[float] | None
) -> ImageFigures:
    """The statistics of a prepared volume; a constant image has the texture NaN."""
    flat = np.asarray(images, np.float32).swapaxes(0, 1)
    quantiles = np.quantile(flat.reshape(len(flat), -1), QUANTILES, axis=1).T
    first = flat[0]
    step = float(np.mean([np.abs(np.diff(first, axis=axis)).mean() for axis in (1, 2)]))
    texture = math.log(step / float(first.std())) if step > 0 else math.nan
    return ImageFigures(quantiles, texture, known_spacing(spacing_mm) or None)


@dataclass(frozen=True)
class ImageReference:
    """What the images that a model knows look like.

    Args:
        quantiles: the median of each quantile over images.
        usual: the median over images of their distance from these.
        texture: median and robust scale of the texture.
        spacings: voxel sizes that occur; empty if unknown.
    """

    quantiles: Float[np.ndarray, "channel quantile"]
    usual: float
    texture: tuple[float, float]
    spacings: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, figures: Sequence[ImageFigures]) -> ImageReference:
        """The statistics of known images, at least one."""
        each = np.stack([one.quantiles for one in figures])
        middle = np.median(each, axis=0)
        usual = float(np.median(np.abs(each - middle).mean(axis=(1, 2))))
        known = np.array([one.texture for one in figures if not math.isnan(one.texture)])
        texture = robust_scale(known) if len(known) else (math.nan, math.nan)
        spacings = {
            tuple(round(step, 4) for step in one.spacing_mm) for one in figures if one.spacing_mm
        }
        return cls(middle, max(usual, 1e-6), texture, tuple(sorted(spacings)))

    def distances(self, figures: ImageFigures) -> dict[str, float]:
        """How far an image is from these; NaN where that is unknown.

        - ``intensity``: mean distance of its quantiles from the usual ones (Wasserstein distance of the
          histograms, by 19 quantiles), as a multiple of what is usual among known images.
        - ``texture``: absolute robust z-score.
        - ``spacing``: the factor between its voxel size and the nearest known one, on the axis where it
          is largest; 1 is equal.
        """
        intensity = math.nan
        if figures.quantiles.shape == self.quantiles.shape:
            intensity = float(np.abs(figures.quantiles - self.quantiles).mean()) / self.usual
        middle, scale = self.texture
        texture = abs(figures.texture - middle) / max(scale, 0.05)
        return {"intensity": intensity, "texture": texture, "spacing": self._factor(figures)}

    def _factor(self, figures: ImageFigures) -> float:
        own = figures.spacing_mm
        alike = [one for one in self.spacings if own is not None and len(one) == len(own)]
        if own is None or not alike:
            return math.nan
        return min(
            math.exp(max(abs(math.log(a / b)) for a, b in zip(own, one, strict=True)))
            for one in alike
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "quantiles": self.quantiles.tolist(),
            "usual": self.usual,
            "texture": list(self.texture),
            "spacings": [list(one) for one in self.spacings],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ImageReference:
        """From :meth:`as_dict`."""
        middle, scale = content["texture"]
        return cls(
            np.array(content["quantiles"], float),
            float(content["usual"]),
            (float(middle), float(scale)),
            tuple(tuple(float(step) for step in one) for one in content["spacings"]),
        )
